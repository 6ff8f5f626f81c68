package scenario

func deviceScenarios() []Scenario { return nil }
