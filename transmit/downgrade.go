package transmit

import (
	"context"
	"log/slog"
)

// tellDowngrade tells of a downgrade: the application's function, or else the
// log. What is in the nature of a path is no news for operators.
func tellDowngrade(tell func(*Downgrade), log *slog.Logger, d *Downgrade, expected bool) {
	if tell != nil {
		tell(d)
		return
	}
	if log == nil {
		log = slog.Default()
	}
	level := slog.LevelInfo
	if expected {
		level = slog.LevelDebug
	}
	log.LogAttrs(context.Background(), level, "transmit goes on by another way",
		slog.String("from", string(d.From)), slog.String("to", string(d.To)),
		slog.String("cause", d.Cause), slog.String("reason", d.Reason), slog.Any("error", d.Err))
}
