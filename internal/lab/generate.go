package lab

// The object is the same on every machine: it needs no headers but its own, and
// is built by one version of clang, that of Debian 12 (packages clang-14 and
// llvm-14). TestGenerated builds it again and compares.
//
//go:generate go run ../bpfobject/build -cc clang-14 -strip llvm-strip-14 -target bpfel -tags linux -cflags "-mcpu=v2 -nostdinc -Wall -Wextra -Werror" -type flow_flag sink bpf/sink.c
