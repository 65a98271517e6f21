package adapters

import (
	"errors"
	"log/slog"
	"time"

	"golang.org/x/time/rate"
)

// Outage logs why the outcome of calls is not known: seldom, because during an outage that is every call. It is safe for
// concurrent use.
type Outage struct {
	log   *slog.Logger
	Often rate.Sometimes // how often a line is written
}

// NewOutage writes one line a second at most.
func NewOutage(log *slog.Logger) *Outage {
	return &Outage{log: log, Often: rate.Sometimes{Interval: time.Second}}
}

// Note takes the gate's error in the answer to a call, which is named for people. It reports whether the call is a login
// that was turned away because too many wait ([ErrBusy]): that is no outage.
func (o *Outage) Note(call string, err error) (busy bool) {
	if errors.Is(err, ErrBusy) {
		o.log.Debug("a login was turned away: too many at once")
		return true
	}
	o.Often.Do(func() { o.log.Warn("calls cannot be answered", "call", call, "err", err) })
	return false
}
