package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// answer is what one waiting command is told once the page at hand is stored.
type answer struct {
	to      bus.Received
	verb    session.Verb
	refusal session.Refusal
	body    []byte
}

// write takes, decides, appends and answers until something ends this term.
func (w *Writer) write(ctx context.Context) error {
	intake, err := w.cfg.OpenIntake(ctx, w.epoch, w.source, w.read)
	if err != nil {
		return err
	}
	defer intake.Close()
	w.waiting = nil // what an earlier term had taken stands in COMMANDS still, or its senders repeat it
	for ctx.Err() == nil {
		if len(w.waiting) == 0 {
			if err := w.take(ctx, intake); err != nil {
				return err
			}
		}
		if err := w.turn(ctx, intake); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// take waits for commands, or until the next session expires, or a page is to be tried again.
func (w *Writer) take(ctx context.Context, intake Intake) error {
	waitCtx := ctx
	wait := time.Duration(-1)
	if next := w.state.NextDeadline(); next != 0 {
		wait = max(0, time.Duration(next-session.At(w.cfg.Now())))
	}
	if !w.failing.IsZero() && (wait < 0 || wait > probeEvery) {
		wait = probeEvery
	}
	if wait >= 0 {
		var cancel context.CancelFunc
		waitCtx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	taken, err := intake.Take(waitCtx)
	if err != nil && !(ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded)) {
		return err
	}
	w.waiting = append(w.waiting[:0], taken...)
	return nil
}

// turn makes one page of what waits, stores it, and answers. After a failed append it rebuilds the state and leaves the
// commands waiting: they are decided again, or answered from the book if the page was stored after all.
func (w *Writer) turn(ctx context.Context, intake Intake) error {
	began := time.Now()
	page, answered, done := w.compose(ctx, intake)
	traced, noted := w.trace(ctx, began, w.waiting[:done])
	if len(page.Events) > 0 || !w.failing.IsZero() { // an empty page finds out whether pages are stored again
		data, err := bus.EncodePage(page)
		if err != nil {
			return fmt.Errorf("encode page %d: %w", w.last+1, err)
		}
		if session.Seeded("answer before append") {
			w.tell(intake, answered)
			_ = intake.Flush()
		}
		seq, err := w.append(traced, data)
		noted(seq, len(page.Events), err)
		if err != nil {
			w.cfg.Log.Warn("a page could not be stored", "partition", w.cfg.Partition, "page", w.last+1, "err", err)
			return w.recover(ctx, err)
		}
		if !w.failing.IsZero() {
			w.failing = time.Time{}
			w.setRole(Writing)
		}
		w.last, w.lastTime = seq, page.Time
		w.noted = commandsRead{page.Incarnation, page.CommandsRead}
		w.clean = true
		w.announced.Store(seq)
		w.events.Add(uint64(len(page.Events)))
		w.answers.settle(seq, page.Answers, page.Time)
		w.cfg.Metrics.stored(w.cfg.Partition, len(page.Events), len(data), w.state.Sessions())
	} else if len(answered) > 0 {
		err := w.confirm(ctx)
		noted(w.last, 0, err)
		if err != nil {
			return err
		}
	}
	w.read, w.source = page.CommandsRead, page.Incarnation
	w.tell(intake, answered)
	w.waiting = w.waiting[done:]
	if err := intake.Flush(); err != nil {
		return err
	}
	return intake.Trim(w.read)
}

// tell answers those whose commands stand in the book through the last page.
func (w *Writer) tell(intake Intake, answered []answer) {
	at := bus.Position{Partition: w.cfg.Partition, Page: w.last}
	for _, a := range answered {
		w.cfg.Metrics.answered(a.verb, a.refusal)
		if session.Seeded("repeat is done again") && a.to.Seq%8 == 0 {
			continue // lost on its way, as any answer may be: it is asked for again
		}
		if err := intake.Reply(a.to, bus.Reply{Position: at, Body: a.body}); err != nil {
			// It is on disk; the sender asks again and is answered from the book.
			w.cfg.Log.Warn("an answer could not be sent", "command", a.verb, "position", at, "err", err)
		}
	}
}

// confirm finds out, before something is answered without a page, that the state it was decided on is the book's: a
// writer that was paused, and deposed meanwhile, would refuse what its successor accepts. An append needs no such
// question. As with every read of the book's end, the leader of its stream is believed.
func (w *Writer) confirm(ctx context.Context) error {
	if w.cfg.Alone {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	end, err := w.cfg.Book.End(ctx)
	if err != nil {
		return fmt.Errorf("confirm the end of the book: %w", err)
	}
	if end != w.last {
		return errDeposed
	}
	return nil
}

// recover rebuilds the state after an append that was not applied. Only the book knows whether the page is there.
func (w *Writer) recover(ctx context.Context, cause error) error {
	w.cfg.Metrics.recovered()
	if err := w.failed(cause); err != nil {
		return err
	}
	if time.Since(w.failing) > probeEvery {
		w.setRole(Failing)
	}
	mine := w.epoch
	if err := w.load(ctx); err != nil {
		return err
	}
	w.announced.Store(w.last)
	if w.epoch != mine {
		return errDeposed
	}
	return sleep(ctx, retryFirst)
}

// compose decides the waiting commands, applies what they led to, and gives the page, the answers, and how many commands
// they cover. The state is ahead of the book from here until the page is stored.
func (w *Writer) compose(ctx context.Context, intake Intake) (bus.Page, []answer, int) {
	now := w.clock()
	page := bus.Page{Epoch: w.epoch, Time: int64(now), Incarnation: intake.Incarnation(), CommandsRead: w.read}
	if page.Incarnation != w.source {
		page.CommandsRead = 0
	}
	answered := make([]answer, 0, len(w.waiting))
	clear(w.composing)
	size, done := 0, 0
	for _, received := range w.waiting {
		if size >= pageRoom || size > 0 && large(session.Verb(received.Verb)) {
			break
		}
		done++
		page.CommandsRead = max(page.CommandsRead, received.Seq)
		if intake.Age(ctx, received) > staleCommand {
			w.cfg.Metrics.stale()
			continue
		}
		a, events, ok := w.decide(ctx, received, now)
		if !ok {
			continue
		}
		if len(events) > 0 {
			page.Answers = append(page.Answers, bus.Answer{ID: received.ID, Events: uint32(len(events))})
			size += w.add(&page, events)
		}
		w.composing[received.ID] = a
		answered = append(answered, a)
	}
	if next := w.state.NextDeadline(); next != 0 && next <= now && size < pageRoom {
		// After the commands, so that the answers count the page's first events.
		events, _ := w.state.Decide(&session.Expire{}, now)
		w.apply(events)
		w.add(&page, events)
	}
	return page, answered, done
}

// large says which commands can lead to so many events that they get a page of their own.
func large(verb session.Verb) bool {
	switch verb {
	case session.VerbLogin, session.VerbRefresh, session.VerbLogout, session.VerbVerify, session.VerbTouch:
		return false
	}
	return true
}

// decide answers one command. With events, they are applied already. It is not ok when nothing can be answered.
func (w *Writer) decide(ctx context.Context, received bus.Received, now session.Instant) (answer, []session.Event, bool) {
	a := answer{to: received, verb: session.Verb(received.Verb)}
	if earlier, repeated := w.composing[received.ID]; repeated { // before its page was stored
		earlier.to = received
		return earlier, nil, true
	}
	if place, repeated := w.answers.find(received.ID); repeated && !session.Seeded("repeat is done again") {
		reply, err := w.recall(ctx, place)
		if err != nil {
			w.cfg.Log.Warn("a repeated command could not be answered from the book", "command", a.verb, "err", err)
			return a, nil, false
		}
		a.refusal, a.body = reply.Refusal, session.EncodeReply(reply)
		return a, nil, true
	}
	cmd, err := session.DecodeCommand(a.verb, received.Body)
	if err != nil {
		w.cfg.Log.Warn("a command could not be read", "command", a.verb, "err", err)
		a.refusal = session.InvalidCommand
		a.body = session.EncodeReply(session.Reply{Refusal: session.InvalidCommand})
		return a, nil, true
	}
	events, reply := w.state.Decide(cmd, now)
	if len(events) > 0 {
		w.apply(events)
		reply = w.state.Recall(events)
	}
	a.refusal, a.body = reply.Refusal, session.EncodeReply(reply)
	return a, events, true
}

// apply takes events into the state, which is ahead of the book from here until their page is stored.
func (w *Writer) apply(events []session.Event) {
	w.clean = w.clean && len(events) == 0
	for _, e := range events {
		w.state.Apply(e)
	}
}

// add puts events into the page and gives their size.
func (w *Writer) add(page *bus.Page, events []session.Event) int {
	size := 0
	for _, e := range events {
		w.cfg.Metrics.event(e.Type())
		data := session.AppendEvent(nil, e)
		page.Events = append(page.Events, data)
		size += len(data)
	}
	return size
}
