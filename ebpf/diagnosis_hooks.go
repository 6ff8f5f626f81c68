package ebpf

import "time"

// Where calls are not looked at all the time, they are for callWindow in each
// callPeriod: to look at them slows down every call of every process.
const (
	callWindow = 20 * time.Millisecond
	callPeriod = 500 * time.Millisecond
)

// The hooks of diagnosis; their names are those of its programs but for the last.
const (
	hookCallEnd    = "sys_exit"
	hookCompletion = "inet_sk_error_report"
	hookFork       = "sched_process_fork"
	hookFiles      = "iter/task_file"
)

// diagnosisHooks are those that diagnosis adds to those of a tier.
func diagnosisHooks(tier Tier, o Options) []Hook {
	if tier == TierNone {
		return nil
	}
	calls := "each system call of every process, for 20 ms of each half second"
	if o.Exact {
		calls = "each system call of every process"
	}
	hooks := []Hook{
		{Name: hookCallEnd, Purpose: "by which calls programs send, and which were refused",
			Runs: calls, Blind: "loops of read and write, refused calls, limits", Since: "5.10"},
		{Name: hookCompletion, Purpose: "when sends with MSG_ZEROCOPY were completed",
			Runs: "each completion", Blind: "how long completions take", Since: "5.15"},
		{Name: hookFork, Purpose: "children of the processes looked at",
			Runs: "each fork", Blind: "children", Since: "5.10"},
		{Name: hookFiles, Purpose: "sockets as they are, and completions that wait",
			Runs: "each open file of those processes, twice a second", Blind: "completions that nobody reads", Since: "5.8"},
	}
	for i := range hooks {
		hooks[i].Tier = tier
		if hooks[i].Name == hookFork && len(o.Processes) == 0 {
			hooks[i].Err = errNotTried
		}
	}
	return hooks
}

// blindWithoutBPF says what is not seen where nothing is loaded into the kernel.
func blindWithoutBPF() []string {
	return []string{
		"whether payload is copied, nor where, nor by which call it was sent: all of it is unknown, and what is advised is predicted",
		"what UDP sockets send, and sockets that are closed within half a second",
		"calls of programs: which were refused, and what they copy themselves",
	}
}
