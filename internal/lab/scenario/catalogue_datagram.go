package scenario

func datagramScenarios() []Scenario { return nil }
