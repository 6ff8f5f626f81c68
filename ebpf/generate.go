package ebpf

// The objects are the same on every machine: they need no headers but their own,
// and are built by one version of clang, that of Debian 12 (packages clang-14 and
// llvm-14). TestGenerated builds them again and compares.
//
//go:generate go run ../internal/bpfobject/build -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -tags linux -cflags "-mcpu=v2 -nostdinc -Wall -Wextra -Werror" -type api -type class -type kind -type evidence -type counter_key -type counter -type socket_state -type socket_facts -type flight -type flight_bucket -type losses -type device_key -type device -type base -type packet trace bpf/trace.c
//go:generate go run ../internal/bpfobject/build -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -tags linux -cflags "-mcpu=v2 -nostdinc -Wall -Wextra -Werror" -type pattern -type party_kind -type call_key -type call_count -type latency -type socket_now calls bpf/calls.c
//go:generate go run ../internal/bpfobject/build -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -tags linux -cflags "-DFENTRY -mcpu=v2 -nostdinc -Wall -Wextra -Werror" -type called -type lies -type fact_kind -type saw -type fact_key -type fact -type sender_state -type span -type owner -type link_key -type link -type gone fentry bpf/functions.c
//go:generate go run ../internal/bpfobject/build -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -tags linux -cflags "-DKPROBE -mcpu=v2 -nostdinc -Wall -Wextra -Werror" kprobe bpf/functions.c
