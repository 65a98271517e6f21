package webhooks

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	neturl "net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxAnswer is how much of an answer is read, in bytes: enough for the connection to be used again.
const maxAnswer = 64 << 10

// poster makes single attempts at one endpoint. It is safe for concurrent use.
type poster struct {
	endpoint Endpoint
	agent    string
	client   *http.Client
}

// outcome is what became of an attempt.
type outcome struct {
	err   error         // nil: delivered
	after time.Duration // when the endpoint asked for a pause; 0: it did not
}

func newPoster(e Endpoint, agent string) *poster {
	p := &poster{endpoint: e, agent: agent}
	dialer := &net.Dialer{Timeout: e.Timeout, ControlContext: p.permit}
	p.client = &http.Client{
		// No redirect is followed: it would carry a signed event to where nobody has said it should go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{ // and no Proxy: what the environment names is not the endpoint
			DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{RootCAs: e.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: e.Timeout, MaxIdleConnsPerHost: e.Parallel,
			IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 32 << 10, DisableCompression: true, ForceAttemptHTTP2: true,
		},
	}
	return p
}

// errPrivate: the endpoint's name leads to where no endpoint should be.
var errPrivate = errors.New("the address is of a private network, and the endpoint's setting does not allow that")

// permit is asked for each address that is about to be dialled, after the name was resolved.
func (p *poster) permit(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := at.Addr().Unmap()
	u, err := neturl.Parse(p.endpoint.URL)
	if err != nil {
		return err
	}
	if thisMachine(u.Hostname()) && ip.IsLoopback() {
		return nil // named in so many words
	}
	if p.endpoint.Private || public(ip) {
		return nil
	}
	return errPrivate
}

// Networks that are neither private by their own word nor anybody's on the internet.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
}

// public reports whether an address is one of the internet.
func public(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, net := range reserved {
		if net.Contains(ip) {
			return false
		}
	}
	return true
}

// post makes one attempt.
func (p *poster) post(ctx context.Context, id string, body []byte) outcome {
	ctx, cancel := context.WithTimeout(ctx, p.endpoint.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.endpoint.URL, bytes.NewReader(body))
	if err != nil {
		return outcome{err: errors.New("the URL can not be read")}
	}
	now := time.Now()
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", p.agent)
	request.Header["webhook-id"] = []string{id} // as the specification writes them
	request.Header["webhook-timestamp"] = []string{strconv.FormatInt(now.Unix(), 10)}
	request.Header["webhook-signature"] = []string{sign(p.endpoint.Secrets, id, now, body)}
	answer, err := p.client.Do(request)
	if err != nil {
		return outcome{err: withoutURL(err)}
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, maxAnswer) // what it says is of no use here
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return outcome{}
	}
	return outcome{err: fmt.Errorf("answered with status %d", answer.StatusCode), after: retryAfter(answer.Header.Get("Retry-After"), now)}
}

// withoutURL takes the URL out of a client's error: it may have a token in its query.
func withoutURL(err error) error {
	var in *neturl.Error
	if errors.As(err, &in) {
		err = in.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	return err
}

// retryAfter reads what RFC 9110 section 10.2.3 has: seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

func (p *poster) close() { p.client.CloseIdleConnections() }
