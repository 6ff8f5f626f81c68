package probe

import "context"

// Each function here is replaced by its real one as that lands; the file goes with the last of them.

func readDir(ctx context.Context, s *sources, dir string, write bool) DirFacts { return DirFacts{} }
