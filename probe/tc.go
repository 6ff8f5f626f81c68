package probe

// tcUnknown in Link.TCIngress and Link.TCEgress: whether a program is attached
// could not be told.
const tcUnknown = "?"

// tcWords names what Link.TCIngress or Link.TCEgress holds; "" is nothing.
func tcWords(hook string) string {
	switch hook {
	case "":
		return ""
	case "filter":
		return "a tc filter"
	case tcUnknown:
		return "perhaps a BPF program, which only root can see,"
	}
	return "a " + hook + " BPF program"
}
