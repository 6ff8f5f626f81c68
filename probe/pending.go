package probe

// Each function here is replaced by its real one as that lands; the file goes with the last of them.

func judgeDirs(f *Facts) []Feature   { return nil }
func judgeHazards(f *Facts) []Hazard { return nil }
