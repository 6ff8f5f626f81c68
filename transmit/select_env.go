package transmit

import (
	"fmt"
	"os"
)

// EnvBackend is the environment variable that names the backend to use, for
// everything that a program sends through this package. It is for operators: a
// kernel or driver that misbehaves is worked around by ZCPROBE_BACKEND=write.
const EnvBackend = "ZCPROBE_BACKEND"

// Environment returns the backend that the environment asks for, "" if none. The
// error says that there is none of that name. [Select] does not read the
// environment: what Environment returns goes into [SelectOptions].
func Environment() (Backend, error) {
	name := os.Getenv(EnvBackend)
	if name == "" {
		return "", nil
	}
	b, err := ParseBackend(name)
	if err != nil {
		return "", fmt.Errorf("environment variable %s: %w", EnvBackend, err)
	}
	return b, nil
}
