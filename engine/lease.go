package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Leases has a writer end what dead pods leave behind: the sessions that were bound to a connection there. All fields
// are required.
//
// A pod that lives says so every few seconds, and that is its lease: nothing of it is stored. A writer that begins gives
// every pod that the book knows of a whole lease, and so does one that was out of touch itself: that it heard nobody
// then says nothing of them. So what a fail-over or an outage of the bus costs is time.
type Leases struct {
	// Length is how long nothing may be heard of a pod. It is to be longer than the venues let sessions outlive their
	// sockets, since the clients of a pod that is gone need as long to come back.
	Length time.Duration
	// Pods calls fn with each pod that announces itself: [bus.Bus.Pods].
	Pods func(fn func(id [16]byte)) (stop func(), err error)
	// Submit sends a command to its partition, this writer's: [bus.Submitter.Submit].
	Submit func(ctx context.Context, cmd bus.Command) (bus.Reply, error)
}

// deaf is after how long without a word of its own a writer takes itself to be out of touch.
const deaf = time.Second

// roll is what a writer knows of the pods.
type roll struct {
	mu    sync.Mutex
	heard map[session.PodID]time.Time // guarded by mu: when each was heard last
	self  time.Time                   // guarded by mu: when this writer heard itself last
	since time.Time                   // guarded by mu: from when on it has heard all that was said
}

func newRoll(known []session.PodID, now time.Time) *roll {
	r := &roll{heard: make(map[session.PodID]time.Time), self: now, since: now}
	for _, pod := range known {
		r.heard[pod] = now
	}
	return r
}

func (r *roll) hear(pod session.PodID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard[pod] = time.Now()
}

// hearSelf notes that what is said reaches this process.
func (r *roll) hearSelf() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touch(time.Now())
}

// touch ends a time out of touch. Its caller holds mu.
func (r *roll) touch(now time.Time) {
	if now.Sub(r.self) > deaf {
		r.since = now
	}
	r.self = now
}

// lost lists the pods that nothing was heard of for so long, though it would have been.
func (r *roll) lost(lease time.Duration) []session.PodID {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.self) > deaf || now.Sub(r.since) < lease {
		return nil
	}
	var lost []session.PodID
	for pod, at := range r.heard {
		if now.Sub(at) >= lease {
			lost = append(lost, pod)
		}
	}
	return lost
}

func (r *roll) forget(pod session.PodID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.heard, pod)
}

// watchPods ends the sessions of pods that are gone, until ctx ends. It runs beside one term of the writer; known are
// the pods that the book names at its beginning.
func (w *Writer) watchPods(ctx context.Context, known []session.PodID) {
	leases := w.cfg.Leases
	r := newRoll(known, time.Now())
	for pause := retryFirst; ; pause = min(2*pause, retryLast) {
		stop, err := w.listen(r)
		if err == nil {
			defer stop()
			break
		}
		w.cfg.Log.Warn("pods cannot be listened for, trying on", "partition", w.cfg.Partition, "err", err)
		if sleep(ctx, pause) != nil {
			return
		}
	}
	tick := time.NewTicker(min(leases.Length/10, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, pod := range r.lost(leases.Length) {
			if w.endPod(ctx, pod) {
				r.forget(pod) // one that comes back is heard
			}
		}
	}
}

// listen has the roll hear the pods, and this writer itself.
func (w *Writer) listen(r *roll) (stop func(), err error) {
	stopPods, err := w.cfg.Leases.Pods(func(id [16]byte) { r.hear(session.PodID(id)) })
	if err != nil {
		return nil, err
	}
	stopSelf, err := w.cfg.Book.Announcements(func(bus.Announcement) { r.hearSelf() })
	if err != nil {
		stopPods()
		return nil, err
	}
	return func() { stopPods(); stopSelf() }, nil
}

// endPod ends the sessions of a pod, and says whether none is left.
func (w *Writer) endPod(ctx context.Context, pod session.PodID) bool {
	for total := uint64(0); ; {
		cmd := &session.PodLost{Pod: pod}
		answer, err := w.cfg.Leases.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Partition: w.cfg.Partition, Verb: string(cmd.Verb()),
			Body: session.EncodeCommand(cmd)})
		var reply session.Reply
		if err == nil {
			reply, err = session.DecodeReply(answer.Body)
		}
		if err == nil && reply.Refusal != session.Accepted {
			err = errors.New(reply.Refusal.String())
		}
		if err != nil {
			if ctx.Err() == nil {
				w.cfg.Log.Warn("the sessions of a pod that is gone could not be ended, trying on", "partition", w.cfg.Partition, "pod", pod, "err", err)
			}
			return false
		}
		if total += reply.Count; reply.Count == 0 {
			if total > 0 {
				w.cfg.Log.Info("a pod is gone: its clients' sessions have ended", "partition", w.cfg.Partition, "pod", pod, "sessions", total)
			}
			return true
		}
	}
}
