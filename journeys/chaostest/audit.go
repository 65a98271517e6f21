package chaostest

import (
	"context"
	"fmt"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Audited is what the books hold.
type Audited struct {
	Pages, Events, Epochs, Started, Ended, Redeemed uint64
	Wrong                                           []string // what must not be
}

// ledger is what has been read of the books so far.
type ledger struct {
	Audited
	commands map[bus.CommandID]bus.Position
	live     map[session.SessionID]uint64 // the generation
	over     map[session.SessionID]bool
	redeemed map[session.TokenHash]bool
}

// Audit reads all books from their first page, and finds what nobody may ever have written: a command that was done
// twice, a session that goes on after its end, a token that was redeemed twice, an epoch that goes back.
func (s *Site) Audit(ctx context.Context) (Audited, error) {
	b, err := s.connect(ctx)
	if err != nil {
		return Audited{}, err
	}
	defer b.Close()
	l := &ledger{commands: map[bus.CommandID]bus.Position{}, live: map[session.SessionID]uint64{}, over: map[session.SessionID]bool{},
		redeemed: map[session.TokenHash]bool{}}
	for p := range bus.Partition(s.cfg.Partitions) {
		book := b.Book(p)
		end, err := book.End(ctx)
		if err != nil {
			return l.Audited, err
		}
		epoch, last := uint64(0), int64(0)
		err = book.Read(ctx, 0, end, func(stored bus.StoredPage) error {
			page, err := bus.DecodePage(stored.Data)
			if err != nil {
				return err
			}
			at := bus.Position{Partition: p, Page: stored.Seq}
			if page.Epoch < epoch {
				l.wrong("page %s is of epoch %d, after %d", at, page.Epoch, epoch)
			}
			if page.Epoch != epoch {
				l.Epochs++
			}
			if page.Time < last {
				l.wrong("page %s: the clock went back", at)
			}
			epoch, last = page.Epoch, page.Time
			l.Pages++
			return l.page(at, page)
		})
		if err != nil {
			return l.Audited, fmt.Errorf("audit %s: %w", bus.BookStream(p), err)
		}
	}
	return l.Audited, nil
}

func (l *ledger) wrong(format string, args ...any) {
	l.Wrong = append(l.Wrong, fmt.Sprintf(format, args...))
}

func (l *ledger) page(at bus.Position, page bus.Page) error {
	for _, a := range page.Answers {
		if earlier, twice := l.commands[a.ID]; twice {
			l.wrong("one command was done by pages %s and %s", earlier, at)
		}
		l.commands[a.ID] = at
	}
	for i, data := range page.Events {
		at.Index = uint32(i)
		event, err := session.DecodeEvent(data)
		if err != nil {
			return err
		}
		l.Events++
		l.event(at, event)
	}
	return nil
}

func (l *ledger) event(at bus.Position, event session.Event) {
	switch e := event.(type) {
	case *session.SessionStarted:
		l.Started++
		if _, twice := l.live[e.Session]; twice || l.over[e.Session] {
			l.wrong("%s: session %s started again", at, e.Session)
		}
		l.live[e.Session] = 0
	case *session.SessionRefreshed:
		generation, live := l.live[e.Session]
		if !live || uint64(e.Generation) <= generation {
			l.wrong("%s: session %s was refreshed to generation %d from %d, live %t", at, e.Session, e.Generation, generation, live)
		}
		l.live[e.Session] = uint64(e.Generation)
	case *session.SessionEnded:
		l.Ended++
		if _, live := l.live[e.Session]; !live {
			l.wrong("%s: session %s ended, and was not live", at, e.Session)
		}
		delete(l.live, e.Session)
		l.over[e.Session] = true
	case *session.OneTimeRedeemed:
		l.Redeemed++
		if l.redeemed[e.Token] {
			l.wrong("%s: a one-time token was redeemed again", at)
		}
		l.redeemed[e.Token] = true
	}
}

// Compare holds the books against the history: each acknowledged login is there, and no login is that nobody asked for.
func (a Audited) Compare(ops []Op) []string {
	var wrong []string
	var acknowledged, unknown uint64
	for _, op := range ops {
		switch {
		case op.Kind == Login && op.Outcome == Yes:
			acknowledged++
		case op.Kind == Login && op.Outcome == Unknown:
			unknown++
		}
	}
	if a.Started < acknowledged || a.Started > acknowledged+unknown {
		wrong = append(wrong, fmt.Sprintf("%d sessions started, %d logins acknowledged and %d unanswered", a.Started, acknowledged, unknown))
	}
	return wrong
}
