package adapters

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"
)

// Sockets counts the sockets of a venue on this pod, and what outlives them, and closes them together. Its methods are
// safe for concurrent use.
type Sockets struct {
	most    int
	closing context.Context // ends the waits that outlive a request
	close   context.CancelFunc
	work    sync.WaitGroup // a socket, or work that outlives one and has begun

	mu      sync.Mutex
	stopped bool // guarded by mu: Shutdown has begun, nothing new starts
	open    int  // guarded by mu: how many sockets there are
}

// NewSockets makes room for that many sockets.
func NewSockets(most int) *Sockets {
	s := &Sockets{most: most}
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// Admit counts one more socket, unless there is no room or the service stops. [Sockets.Dismiss] undoes it.
func (s *Sockets) Admit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.open >= s.most {
		return false
	}
	s.open++
	s.work.Add(1)
	return true
}

// Dismiss says that a socket that was admitted is gone, and all that was started for it has ended.
func (s *Sockets) Dismiss() {
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
	s.work.Done()
}

// begin counts work that outlives a socket, unless the service stops: then it is not to begin. s.work.Done undoes it.
func (s *Sockets) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.work.Add(1)
	return true
}

// Open is how many sockets there are.
func (s *Sockets) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Closing ends when the service stops. Whoever keeps a socket closes it then.
func (s *Sockets) Closing() context.Context { return s.closing }

// Shutdown has all sockets closed, and admits no more. It returns when all that was counted has ended, or with ctx's
// error.
func (s *Sockets) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.close()

	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("some sockets have not closed in time"), ctx.Err())
	}
}

// Care is how one socket is looked after.
type Care struct {
	Conn *websocket.Conn
	// Every is how often the client is asked for a sign of life, Patience how long it may take. A pong is read between
	// two messages, so it may have to wait until one is answered.
	Every, Patience time.Duration
	// Clean has the socket closed with code 1012 when the service stops; without it the connection is dropped.
	Clean bool
	// Busy is held while a reply is written: the service's stopping waits for that.
	Busy sync.Locker
	// Gone is closed when nobody reads the socket any more.
	Gone <-chan struct{}
}

// LookAfter pings the client, and closes the socket when it does not answer or when the service stops. It returns when
// the socket is closed or gone.
func (s *Sockets) LookAfter(c Care) {
	ping := time.NewTicker(c.Every)
	defer ping.Stop()
	for {
		select {
		case <-ping.C:
			ctx, cancel := context.WithTimeout(s.closing, c.Patience)
			err := c.Conn.Ping(ctx)
			cancel()
			if err != nil && s.closing.Err() == nil {
				c.Conn.CloseNow()
				return
			}
		case <-s.closing.Done():
			c.Busy.Lock()
			defer c.Busy.Unlock()
			if c.Clean {
				c.Conn.Close(websocket.StatusServiceRestart, "the service stops")
			} else {
				c.Conn.CloseNow()
			}
			return
		case <-c.Gone:
			return
		}
	}
}

// MessageRate bounds how many messages one socket may send. It belongs to the goroutine that reads the socket.
type MessageRate struct {
	limit     *rate.Limiter
	perSecond int
	excess    int // messages over the limit, one after the other
}

// NewMessageRate takes that many messages a second, beyond a burst of twice as many.
func NewMessageRate(perSecond int) *MessageRate {
	return &MessageRate{limit: rate.NewLimiter(rate.Limit(perSecond), 2*perSecond), perSecond: perSecond}
}

// Allow counts a message, and says whether it is within the limit.
func (m *MessageRate) Allow() bool {
	if !m.limit.Allow() {
		m.excess++
		return false
	}
	m.excess = 0
	return true
}

// Abused reports whether so many messages over the limit came, one after the other, that the client does not mean to
// slow down: 20 seconds' worth.
func (m *MessageRate) Abused() bool { return m.excess > 20*m.perSecond }

// CloseAbused closes the socket when its limit is abused, and reports whether it did.
func (m *MessageRate) CloseAbused(conn *websocket.Conn, log *slog.Logger) bool {
	if !m.Abused() {
		return false
	}
	log.Info("a socket was closed: it sends too much")
	conn.Close(websocket.StatusPolicyViolation, "too many messages")
	return true
}

// IsUpgrade reports whether a request asks for a socket (RFC 6455, 4.2.1).
func IsUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && lists(r.Header, "Upgrade", "websocket") && lists(r.Header, "Connection", "upgrade")
}

// lists reports whether a header that is a list has the token, in any case.
func lists(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for entry := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(entry), token) {
				return true
			}
		}
	}
	return false
}
