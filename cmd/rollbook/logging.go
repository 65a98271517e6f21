package main

import (
	"io"
	"log/slog"
)

// logSettings say what is logged, to standard error.
type logSettings struct {
	Format string `help:"How log lines are written: text or json." enum:"text,json" default:"text" env:"ROLLBOOK_LOG_FORMAT"`
	Level  string `help:"The least level that is logged: debug, info, warn or error. Empty: info, and warn with --demo and for the operator's commands." enum:"debug,info,warn,error," default:"" env:"ROLLBOOK_LOG_LEVEL"`
}

// logger makes the process's log; usual is the level where none is set.
func (s logSettings) logger(to io.Writer, usual slog.Level) *slog.Logger {
	level := usual
	if s.Level != "" {
		_ = level.UnmarshalText([]byte(s.Level)) // one of the four, or parsing had failed
	}
	options := &slog.HandlerOptions{Level: level}
	if s.Format == "json" {
		return slog.New(slog.NewJSONHandler(to, options))
	}
	return slog.New(slog.NewTextHandler(to, options))
}
