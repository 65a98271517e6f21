package bus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// serverLog writes the server's log to slog: its chatter at debug, its
// complaints at warn. The server's texts name users by public key at most.
type serverLog struct {
	log *slog.Logger

	// A client that is refused tries again, as fast as it can. Its refusals
	// are told now and then, with how many were not.
	refusals rate.Sometimes
	untold   atomic.Int64
}

func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{log: log, refusals: rate.Sometimes{First: 3, Interval: 10 * time.Second}}
}

func (l *serverLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.complain(format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.complain(format, v) }
func (l *serverLog) Fatalf(format string, v ...any)  { l.write(slog.LevelError, format, v) }

func (l *serverLog) write(level slog.Level, format string, v []any, attrs ...any) {
	l.log.Log(context.Background(), level, "nats: "+fmt.Sprintf(format, v...), attrs...)
}

// complain tells the server's complaints apart by their texts, because the
// server gives nothing else. A text that a later version words differently is
// just a warning again.
func (l *serverLog) complain(format string, v []any) {
	text := fmt.Sprintf(format, v...)
	switch {
	case strings.HasPrefix(text, "Filestore ") && strings.HasSuffix(text, "will rebuild"):
		// After a kill the stream's index is older than its blocks, as it has to
		// be; reading the blocks mends it.
		l.write(slog.LevelInfo, "%s", []any{text})
	case strings.Contains(text, " Violation - ") || strings.Contains(text, "Violation Too Many Tokens") ||
		strings.Contains(text, "authentication error"):
		told := false
		l.refusals.Do(func() {
			told = true
			l.write(slog.LevelWarn, "%s", []any{text}, "untold", l.untold.Swap(0))
		})
		if !told {
			l.untold.Add(1)
		}
	default:
		l.write(slog.LevelWarn, "%s", []any{text})
	}
}
