package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"rollbook/bus/bustest"
)

// pipes is a listener whose connections stay within the bubble.
type pipes struct {
	come   chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.come:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "bubble", Net: "unix"} }

// withPipe serves the handler as a venue is served, and has the client use one connection.
func withPipe(t *testing.T, handler http.HandlerFunc, client func(c net.Conn)) {
	at := &pipes{come: make(chan net.Conn), closed: make(chan struct{})}
	w := newWeb("test", at, handler, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	ours, theirs := net.Pipe()
	at.come <- theirs
	client(ours)
	ours.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// long is longer than any bound of a request.
const long = time.Hour

// TestBodiesNobodyReadsAreBounded: a request that is refused by its path may announce a body that never comes, or comes
// byte by byte. The server waits for it before it replies; it must not wait for ever.
func TestBodiesNobodyReadsAreBounded(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		for name, every := range map[string]time.Duration{"never comes": long, "drips": time.Second} {
			withPipe(t, http.NotFound, func(c net.Conn) {
				start := time.Now()
				if _, err := io.WriteString(c, "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				drips := time.NewTicker(every)
				defer drips.Stop()
				done := make(chan struct{})
				defer close(done)
				go func() {
					for {
						select {
						case <-drips.C:
							_, _ = c.Write([]byte(" ")) // the server may have had enough
						case <-done:
							return
						}
					}
				}()
				_ = c.SetReadDeadline(start.Add(long / 2))
				answer, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Errorf("a body that %s: no reply: %v", name, err)
					return
				}
				if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusNotFound || !answer.Close {
					t.Errorf("a body that %s: the reply is %v, %v", name, answer, err)
				}
				if took := time.Since(start); took != readWithin {
					t.Errorf("a body that %s was waited for %v", name, took)
				}
			})
		}
	})
}

// TestRepliesNobodyReadsAreBounded: a client that asks and does not read loses its connection.
func TestRepliesNobodyReadsAreBounded(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		withPipe(t, http.NotFound, func(c net.Conn) {
			start := time.Now()
			if _, err := io.WriteString(c, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			_ = c.SetWriteDeadline(start.Add(long))
			// The server reads one byte ahead, and no more until its reply is read.
			_, err := io.WriteString(c, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
			if err == nil || os.IsTimeout(err) {
				t.Errorf("the connection is still there after %v: %v", time.Since(start), err)
			}
			if took := time.Since(start); took != writeWithin {
				t.Errorf("the reply was offered for %v", took)
			}
		})
	})
}

// TestSocketsOutliveTheBounds: what becomes a socket is not bounded by what a request is.
func TestSocketsOutliveTheBounds(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		withPipe(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			time.Sleep(long)
			heard := make([]byte, 4)
			if _, err := io.ReadFull(buffered, heard); err != nil { // the server may have read the first byte
				t.Errorf("the socket cannot be read: %v", err)
			}
			if _, err := conn.Write(heard); err != nil {
				t.Errorf("the socket cannot be written: %v", err)
			}
		}, func(c net.Conn) {
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "ping"); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); err != nil || string(got) != "ping" {
				t.Errorf("the socket gave %q, %v", got, err)
			}
		})
	})
}
