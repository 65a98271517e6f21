package history

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode"

	"rollbook/bus"
	"rollbook/engine/session"
)

// elements are those that a report consists of; anything else came from a client.
var elements = map[string]bool{"html": true, "head": true, "meta": true, "title": true, "style": true, "body": true, "h1": true, "p": true,
	"svg": true, "g": true, "line": true, "text": true, "rect": true, "span": true, "i": true, "div": true, "table": true, "thead": true,
	"tbody": true, "tr": true, "th": true, "td": true}

// looked is what is in a page: the text, and how often each class stands on a rect.
type looked struct {
	text    string
	classes map[string]int
}

// look reads a page as strict XML: what breaks out of its place breaks that, or shows as an element or attribute of its own.
func look(t *testing.T, page []byte) looked {
	t.Helper()
	_, rest, _ := bytes.Cut(page, []byte("<!DOCTYPE html>"))
	decoder := xml.NewDecoder(bytes.NewReader(rest))
	l := looked{classes: map[string]int{}}
	var text strings.Builder
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			l.text = text.String()
			return l
		}
		if err != nil {
			t.Fatalf("the page is not well formed: %v", err)
		}
		switch e := token.(type) {
		case xml.CharData:
			text.Write(e)
		case xml.Comment, xml.ProcInst, xml.Directive:
			t.Errorf("the page holds %v", e)
		case xml.StartElement:
			if !elements[e.Name.Local] {
				t.Errorf("the page holds an element %s", e.Name.Local)
			}
			for _, a := range e.Attr {
				name := strings.ToLower(a.Name.Local)
				if strings.HasPrefix(name, "on") || name == "href" || name == "src" || strings.Contains(a.Value, "hostile") {
					t.Errorf("<%s %s=%q>", e.Name.Local, a.Name.Local, a.Value)
				}
				if e.Name.Local == "rect" && name == "class" {
					l.classes[a.Value]++
				}
			}
		}
	}
}

// TestReportIsTextAlone: whatever clients have sent, and users are called, stands in the page as text.
func TestReportIsTextAlone(t *testing.T) {
	hostile := []string{
		`<script>hostile()</script>`, `"><img src=x onerror=hostile()>`, `' onload='hostile()`, `</title><script>hostile()</script>`,
		`</style><script>hostile()</script>`, `]]><svg onload=hostile()>`, `<!-- hostile`, `{{.hostile}}`, `javascript:hostile()`, `&lt;hostile&gt;&#x3c;hostile`,
		"hostile\u2028\u202e\x1b[2J\u009b\xff", `</svg></table><iframe src="//hostile">`,
	}
	r := NewReport(hostile[0], time.Unix(0, int64(base)))
	roll := NewRoll()
	for i, text := range hostile {
		at := session.Header{At: base + session.Instant(10*i), User: "jane"}
		id := session.SessionID{byte(i + 1)}
		for _, e := range []session.Event{
			&session.SessionStarted{Header: at, Session: id, Venue: session.Venue(1 + i%5), Client: text, Until: base + 1e12, Scopes: []string{text}},
			&session.LoginRejected{Header: at, Venue: session.Genesis, Client: text, Refusal: session.WrongCredentials},
			&session.SessionsRevoked{Header: session.Header{At: at.At}, Client: text + "none", Count: 1},
			&session.ResourceDefined{Header: at, Resource: session.Resource{Name: "R", Description: text}},
		} {
			entry := roll.Take(bus.Position{Page: uint64(i + 1)}, e)
			r.Add(entry, text, Detail(entry))
		}
	}
	var page bytes.Buffer
	must(t, r.Write(&page))
	got := look(t, page.Bytes())
	for _, text := range hostile {
		if n := strings.Count(got.text, Visible(text)); n < 3 {
			t.Errorf("%q stands in the text %d times", Visible(text), n)
		}
	}
	if i := strings.IndexFunc(page.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("the page holds %q", page.String()[i:i+10])
	}
	if strings.Contains(page.String(), "http:") || strings.Contains(page.String(), "https:") {
		t.Error("the page names something on a network")
	}
}

// TestReportPicture: a bar for each session in the colour of its end, and a cross for each refused login.
func TestReportPicture(t *testing.T) {
	r, roll := NewReport("everything", time.Unix(0, int64(base))), NewRoll()
	add := func(at session.Instant, e session.Event) {
		entry := roll.Take(bus.Position{Page: uint64(at + 1)}, e)
		r.Add(entry, "jane", Detail(entry))
	}
	head := func(at session.Instant) session.Header { return session.Header{At: base + at, User: "jane"} }
	start := func(at session.Instant, n byte, venue session.Venue) {
		add(at, &session.SessionStarted{Header: head(at), Session: session.SessionID{n}, Venue: venue, Client: "desk", Until: base + 5000})
	}
	start(0, 1, session.Genesis)
	start(10, 2, session.Genesis)
	start(20, 3, session.Zenith)
	start(30, 4, session.Zenith)
	add(40, &session.SessionRefreshed{Header: head(40), Session: session.SessionID{1}, Generation: 2})
	add(50, &session.LoginRejected{Header: head(50), Venue: session.Nebula, Refusal: session.Locked})
	add(60, &session.SessionEnded{Header: head(60), Session: session.SessionID{1}, Reason: session.LoggedOut})
	add(70, &session.SessionsRevoked{Header: session.Header{At: base + 70}, Venue: session.Zenith, Before: base + 25, Count: 1})
	add(9000, &session.SessionEnded{Header: head(9000), Session: session.SessionID{4}, Reason: session.LoggedOut}) // long after its deadline
	var page bytes.Buffer
	must(t, r.Write(&page))
	got := look(t, page.Bytes())
	want := map[string]int{"bar ended logout": 1, "bar open": 1, "bar ended revoked": 1, "bar ended expired": 1}
	if fmt.Sprint(got.classes) != fmt.Sprint(want) {
		t.Errorf("the bars are %v, want %v", got.classes, want)
	}
	if n := strings.Count(page.String(), `<line class="refused"`); n != 2 {
		t.Errorf("%d strokes of crosses", n)
	}
	if n := strings.Count(page.String(), `<line class="refresh"`); n != 1 {
		t.Errorf("%d refreshes are drawn", n)
	}
	if r.Events() != 9 || r.Sessions() != 4 || strings.Count(page.String(), "<tr class=") != 9 {
		t.Errorf("%d events, %d sessions", r.Events(), r.Sessions())
	}
}

// TestReportIsBounded: what is too much for a page is counted and said, and the picture is whole up to where it ends.
func TestReportIsBounded(t *testing.T) {
	for _, c := range []struct {
		name string
		e    func(n int, head session.Header) session.Event
		said string // of the picture
	}{
		{"sessions", func(n int, head session.Header) session.Event {
			return &session.SessionStarted{Header: head, Session: session.SessionID{byte(n), byte(n >> 8), 1}, Venue: session.Genesis, Until: head.At + 5}
		}, fmt.Sprintf("%d sessions more and 0 refused", reportRows+5-reportBars)},
		{"refusals", func(_ int, head session.Header) session.Event {
			return &session.LoginRejected{Header: head, Venue: session.Genesis, Refusal: session.WrongCredentials}
		}, fmt.Sprintf("0 sessions more and %d refused logins more", reportRows+5-reportMarks)},
		{"refreshes", func(n int, head session.Header) session.Event {
			if n == 0 {
				return &session.SessionStarted{Header: head, Session: session.SessionID{1}, Venue: session.Genesis, Until: session.Forever}
			}
			return &session.SessionRefreshed{Header: head, Session: session.SessionID{1}}
		}, "0 sessions more and 0 refused"},
	} {
		r, roll := NewReport("much", time.Unix(0, int64(base))), NewRoll()
		for n := range reportRows + 5 {
			r.Add(roll.Take(bus.Position{}, c.e(n, session.Header{At: base + session.Instant(n), User: "u"})), "u", "")
		}
		var page bytes.Buffer
		must(t, r.Write(&page))
		text := page.String() // to read so many rows as XML takes seconds
		if !strings.Contains(text, "5 events more are not in the list") || !strings.Contains(text, c.said) || !strings.Contains(text, "The picture ends at") {
			t.Errorf("%s: the page does not say what it leaves out", c.name)
		}
		if page.Len() > 8<<20 {
			t.Errorf("%s: %d bytes", c.name, page.Len())
		}
		for _, bar := range r.order { // no bar reaches beyond the picture, and the last drawn stands at its end
			if x := r.x(max(bar.from, bar.to)); x > pictureWide-pictureRight {
				t.Fatalf("%s: a bar ends at %f", c.name, x)
			}
		}
		if n := len(r.order); n == reportBars && r.x(r.order[n-1].from) < (pictureWide-pictureRight)*0.99 {
			t.Errorf("%s: the last bar of the picture begins at %f", c.name, r.x(r.order[n-1].from))
		}
	}
}

// TestReportTimeLine: labels that differ, and fit, however long or short the time is.
func TestReportTimeLine(t *testing.T) {
	for long, want := range map[time.Duration]int{0: 1, time.Millisecond: 2, time.Millisecond * 60: 7, 9 * time.Second: 7, time.Hour: 7, 30 * time.Hour: 7, 100 * 24 * time.Hour: 7, 10 * 365 * 24 * time.Hour: 7} {
		r, roll := NewReport("", time.Unix(0, int64(base))), NewRoll()
		for _, at := range []session.Instant{base, base.Add(long)} {
			r.Add(roll.Take(bus.Position{}, &session.LoginRejected{Header: session.Header{At: at, User: "u"}, Venue: session.Zenith}), "u", "")
		}
		labels := map[string]bool{}
		for _, tick := range r.ticks(0) {
			if labels[tick.Text] {
				t.Errorf("%s: %q stands twice", long, tick.Text)
			}
			labels[tick.Text] = true
			if half := 3.0 * float64(len(tick.Text)); tick.X+half > pictureWide {
				t.Errorf("%s: %q stands at %f", long, tick.Text, tick.X)
			}
		}
		if len(labels) != want {
			t.Errorf("%s has the labels %v", long, labels)
		}
	}
}

// TestReportOfNothing is a page too.
func TestReportOfNothing(t *testing.T) {
	var page bytes.Buffer
	must(t, NewReport("nothing", time.Unix(0, int64(base))).Write(&page))
	if got := look(t, page.Bytes()); !strings.Contains(got.text, "0 events") {
		t.Errorf("%s", got.text)
	}
}
