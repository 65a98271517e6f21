package adapterstest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Serve puts a handler on a port until the test ends. One with a method Shutdown is shut down before its server closes,
// and fails the test when that fails.
func Serve(t testing.TB, handler http.Handler) *httptest.Server {
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		if h, can := handler.(interface{ Shutdown(context.Context) error }); can {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := h.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		}
		server.Close()
	})
	return server
}

// Headers reads lines "Name: value". Names stay spelled as they are given; a name that stands twice is sent twice.
func Headers(lines ...string) http.Header {
	header := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		header[name] = append(header[name], value)
	}
	return header
}

// Call makes one call and reads the whole response. A redirect is a response like any other, and so is
// a socket that opens: it is closed again.
func Call(t testing.TB, client *http.Client, method, url, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	Must(t, err)
	if header != nil {
		request.Header = header
	}
	stays := *client
	stays.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := stays.Do(request)
	Must(t, err)
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return response, ""
	}
	raw, err := io.ReadAll(response.Body)
	Must(t, err)
	return response, string(raw)
}

// Exchange sends the text of a request as it stands, over a connection of its own, and reads one response. Only the line
// ends are HTTP's, and a body gets its length: it begins after the first empty line, and a line end that closes the text
// is none of it. A text without a body may so announce one that never comes.
func Exchange(t testing.TB, server *httptest.Server, text string) (*http.Response, string) {
	t.Helper()
	conn := connect(t, server)
	defer conn.Close()
	head, body, _ := strings.Cut(text, "\n\n")
	head, body = strings.TrimSuffix(head, "\n"), strings.TrimSuffix(body, "\n")
	if body != "" {
		head += fmt.Sprintf("\nContent-Length: %d", len(body))
	}
	sent := send(conn, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n"+body)
	method, _, _ := strings.Cut(head, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%v after %s", err, head)
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(response.Body)
	Must(t, err)
	conn.Close()
	<-sent
	return response, string(reply)
}

// Raw sends bytes over a connection of their own, and gives all that comes until the server closes it.
func Raw(t testing.TB, server *httptest.Server, bytes string) string {
	t.Helper()
	conn := connect(t, server)
	defer conn.Close()
	sent := send(conn, bytes)
	reply, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("%v after %.200q and the reply %.200q", err, bytes, reply)
	}
	conn.Close()
	<-sent
	return string(reply)
}

func connect(t testing.TB, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	Must(t, err)
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// send writes in the background: the reply may come, and the connection end, before the request is through.
func send(conn net.Conn, text string) (done <-chan struct{}) {
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = io.WriteString(conn, text)
	}()
	return written
}

// Head is a response's status and headers as a golden holds them: sorted, without the date.
func Head(response *http.Response) []byte {
	header := response.Header.Clone()
	header.Del("Date")
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "%s %s\n", response.Proto, response.Status)
	_ = header.Write(&buf)
	return bytes.ReplaceAll(buf.Bytes(), []byte("\r\n"), []byte("\n"))
}
