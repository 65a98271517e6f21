package adapterstest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// Handshake opens a socket at a path of the server, with a library that is not the server's. Also when it fails it gives
// the response, if there is one.
func Handshake(server *httptest.Server, path string, header http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	dialer := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: patience}
	return dialer.Dial("ws"+strings.TrimPrefix(server.URL, "http")+path, header)
}

// Dial opens a socket, which has to succeed; it is closed with the test.
func Dial(t testing.TB, server *httptest.Server, path string, header http.Header, protocols ...string) *websocket.Conn {
	t.Helper()
	conn, _, err := Handshake(server, path, header, protocols...)
	Must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Send sends a text.
func Send(t testing.TB, conn *websocket.Conn, frame string) {
	t.Helper()
	Must(t, conn.WriteMessage(websocket.TextMessage, []byte(frame)))
}

// Receive gives the next message.
func Receive(t testing.TB, conn *websocket.Conn) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	_, frame, err := conn.ReadMessage()
	Must(t, err)
	return string(frame)
}

// Closed reads on until the server has closed the socket, and gives the code: 1006 where it did not say one.
func Closed(t testing.TB, conn *websocket.Conn) int {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			if e := (*websocket.CloseError)(nil); errors.As(err, &e) {
				return e.Code
			}
			t.Fatalf("not closed: %v", err)
		}
	}
}
