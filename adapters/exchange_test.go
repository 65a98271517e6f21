package adapters_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rollbook/adapters"
)

// TestReadBody sends bodies byte for byte, because a client library would not send the wrong ones.
func TestReadBody(t *testing.T) {
	const most = 10
	for _, test := range []struct {
		name, request string
		hangsUp       bool // the client closes its side
		body          string
		err           error
	}{
		{"none", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false, "", nil},
		{"as large as may be", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789", false, "0123456789", nil},
		{"too large", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n01234567890", false, "", adapters.ErrBodyLarge},
		{"cut off", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n0123", true, "", adapters.ErrBodyCut},
		{"no chunks", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false, "", adapters.ErrBodyCut},
		{"late", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n0123", false, "", adapters.ErrBodyLate},
	} {
		t.Run(test.name, func(t *testing.T) {
			type read struct {
				body []byte
				err  error
			}
			done := make(chan read, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				within := time.Minute
				if errors.Is(test.err, adapters.ErrBodyLate) {
					within = 10 * time.Millisecond
				}
				adapters.LimitReading(w, within)
				body, err := adapters.ReadBody(w, r, most)
				if errors.Is(err, adapters.ErrBodyLarge) {
					adapters.DiscardBody(r, most)
				}
				done <- read{body, err}
			}))
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, test.request); err != nil {
				t.Fatal(err)
			}
			if test.hangsUp {
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			if got := <-done; string(got.body) != test.body || got.err != test.err {
				t.Errorf("read %q, %v", got.body, got.err)
			}
		})
	}
}

// What is too large is read on, and not without end.
func TestDiscardBody(t *testing.T) {
	body := strings.NewReader(strings.Repeat("x", 1000))
	adapters.DiscardBody(&http.Request{Body: io.NopCloser(body)}, 10)
	if left := 1000 - adapters.DiscardFactor*10; body.Len() != left {
		t.Errorf("%d bytes are left, not %d", body.Len(), left)
	}
}

func TestReplyHeaders(t *testing.T) {
	for wait, want := range map[time.Duration]string{0: "", -1: "", 1: "1", time.Second: "1", time.Second + 1: "2", 90 * time.Second: "90"} {
		header := http.Header{}
		adapters.RetryAfter(header, wait)
		if got := header.Get("Retry-After"); got != want {
			t.Errorf("after %s: %q, not %q", wait, got, want)
		}
	}
	w := httptest.NewRecorder()
	adapters.NeverStore(w.Header())
	adapters.WriteBody(w, http.StatusTeapot, adapters.JSONType, []byte(`{}`))
	if h := w.Header(); w.Code != http.StatusTeapot || w.Body.String() != `{}` || h.Get("Content-Length") != "2" ||
		h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v %q", w.Code, h, w.Body)
	}
}
