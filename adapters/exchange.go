package adapters

import (
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"
	"time"
)

// What is wrong with a request's body. The venue says it in its own words.
var (
	// ErrBodyLate says that the body did not arrive within the time of [LimitReading].
	ErrBodyLate = errors.New("the body did not arrive in time")
	// ErrBodyCut says that the connection ended, or made no sense, before the body did.
	ErrBodyCut = errors.New("the body is cut off")
	// ErrBodyLarge says that there is more than the bound. The rest is still to be read: see [DiscardBody].
	ErrBodyLarge = errors.New("the body is too large")
)

// LimitReading gives the client that long to send its request, until [ReadBody] has all of it. Of a body that does not
// come, and that nobody reads, the server would wait for the rest before it replies. Not every ResponseWriter has
// deadlines; then the http.Server's ReadTimeout is the bound.
func LimitReading(w http.ResponseWriter, within time.Duration) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(within))
}

// ReadBody reads a body of at most so many bytes. When it fails the deadline for reading stays: the server may read on
// until then, so that the client comes to read the reply.
func ReadBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, ErrBodyLate
	case err != nil:
		return nil, ErrBodyCut
	case int64(len(body)) > most:
		return nil, ErrBodyLarge
	}
	// The deadline would cut off the call as well: the server listens for the client's going away meanwhile.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, nil
}

// DiscardFactor is how much of a message that is too large is read and thrown away, in its bound.
const DiscardFactor = 15

// DiscardBody reads on for a while, because a client that is still writing would not read the reply. What fails here,
// fails in writing the reply too.
func DiscardBody(r *http.Request, most int64) {
	_, _ = io.CopyN(io.Discard, r.Body, DiscardFactor*most)
}

// WriteBody writes a reply whose other headers are set. A client that has gone is none of our failures.
func WriteBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// JSONType is the content type of JSON (RFC 8259, 11).
const JSONType = "application/json"

// NeverStore has nobody keep the reply, or guess at its type (RFC 9111, 5.2.2.5; OWASP ASVS 5.0, 14.3.2).
func NeverStore(header http.Header) {
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
}

// RetryAfter says that it may go better after a while (RFC 9110, 10.2.3); zero says nothing.
func RetryAfter(header http.Header, wait time.Duration) {
	if wait > 0 {
		header.Set("Retry-After", strconv.FormatInt(Seconds(wait), 10))
	}
}

// Seconds are whole seconds; a started one counts.
func Seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }
