package sealmq

import (
	"log/slog"
	"os"

	"github.com/sealmq/sealmq/config"
)

// newLog returns a log on standard error whose level can be changed later.
func newLog(c config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	setLevel(level, c)
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), level
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o)), level
}

func setLevel(v *slog.LevelVar, c config.Log) {
	var l slog.Level
	if l.UnmarshalText([]byte(c.Level)) == nil { // checked by Validate
		v.Set(l)
	}
}
