package scenario

func tapScenarios() []Scenario { return nil }
