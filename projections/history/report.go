package history

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"time"

	"rollbook/engine/session"
)

// Bounds of a report: a page that no browser opens helps nobody. What is beyond them is counted and said.
const (
	reportBars      = 3000
	reportMarks     = 3000
	reportRefreshes = 20_000
	reportRows      = 20_000
)

//go:embed report.html
var reportText string

var reportPage = template.Must(template.New("report").Parse(reportText))

// Report is entries as one HTML page that needs nothing else: no network, no script. Its picture is a time line with a bar
// for each session, by venue. Everything in it may come from clients, and stands there as text alone, all of it [Visible]. It
// keeps in memory what the page will have.
type Report struct {
	title   string
	made    time.Time
	bars    map[session.SessionID]*reportBar
	order   []*reportBar
	marks   []reportMark // of refused logins
	rows    []reportRow
	first   session.Instant
	last    session.Instant
	events  int
	skipped int // events without a row

	// The picture is whole up to an instant: where there is too much for it, it ends, and says so.
	full      session.Instant // from this instant on nothing is drawn; zero: all is
	refreshes int             // that are drawn
	hidden    int             // sessions without a bar
	unmarked  int             // refused logins without a cross
}

// reportBar is a session in the picture.
type reportBar struct {
	user, id  string
	venue     session.Venue
	from, to  session.Instant
	session   session.Session
	reason    string // how it ended; empty: it had not
	refreshed []session.Instant
}

type reportMark struct {
	venue session.Venue
	at    session.Instant
	text  string
}

// reportRow is an event in the list.
type reportRow struct {
	At, Type, User, Venue, Session, What, Class string
}

// NewReport begins a report under a title that says what was asked for.
func NewReport(title string, made time.Time) *Report {
	return &Report{title: Visible(title), made: made, bars: map[session.SessionID]*reportBar{}}
}

// Events is how many were added, Sessions how many sessions began among them.
func (r *Report) Events() int   { return r.events }
func (r *Report) Sessions() int { return len(r.order) + r.hidden }

// Add takes an entry, in the order of Walk; user and what are how to show whose it is and what it says.
func (r *Report) Add(e Entry, user, what string) {
	user, what = Visible(user), Visible(what)
	at := e.Event.When()
	r.events++
	if r.first == 0 {
		r.first = at
	}
	r.last = max(r.last, at)
	if len(r.rows) < reportRows {
		row := reportRow{At: at.Time().In(time.Local).Format("2006-01-02 15:04:05.000"), Type: string(e.Event.Type()), User: user, Venue: e.Venue.String(), What: what}
		if e.Session != (session.SessionID{}) {
			row.Session = e.Session.String()
		}
		row.Class = classOf(e.Event)
		r.rows = append(r.rows, row)
	} else {
		r.skipped++
	}
	r.draw(e, user)
}

// draw notes what the picture shows of an entry.
func (r *Report) draw(e Entry, user string) {
	at := e.Event.When()
	switch event := e.Event.(type) {
	case *session.SessionStarted:
		if r.isFull(at, len(r.order) >= reportBars) {
			r.hidden++
			return
		}
		b := &reportBar{user: user, id: event.Session.String(), venue: event.Venue, from: at, session: event.Begin()}
		r.bars[event.Session] = b
		r.order = append(r.order, b)
	case *session.SessionRefreshed:
		b := r.bars[event.Session]
		if b == nil {
			return
		}
		event.Renew(&b.session)
		if !r.isFull(at, r.refreshes >= reportRefreshes) {
			b.refreshed = append(b.refreshed, at)
			r.refreshes++
		}
	case *session.SessionTouched:
		if b := r.bars[event.Session]; b != nil {
			event.Note(&b.session)
		}
	case *session.SessionEnded:
		r.end(event.Session, at, event.Reason)
	case *session.SessionsRevoked:
		for _, s := range e.Ended {
			r.end(s.ID, at, session.Revoked)
		}
	case *session.LoginRejected:
		if r.isFull(at, len(r.marks) >= reportMarks) {
			r.unmarked++
			return
		}
		r.marks = append(r.marks, reportMark{event.Venue, at, user + ": " + event.Refusal.String()})
	}
}

// isFull says whether the picture has ended, and ends it at an instant at which there is too much.
func (r *Report) isFull(at session.Instant, tooMuch bool) bool {
	if tooMuch && r.full == 0 {
		r.full = at
	}
	return r.full != 0
}

// drawnTo is the instant that the picture ends with.
func (r *Report) drawnTo() session.Instant {
	if r.full != 0 {
		return r.full
	}
	return r.last
}

func (r *Report) end(id session.SessionID, at session.Instant, why session.EndReason) {
	if b := r.bars[id]; b != nil && b.reason == "" {
		b.to, b.reason = at, why.String()
		if deadline := b.session.Deadline(); deadline <= at {
			b.to, b.reason = deadline, session.Expired.String()
		}
	}
}

func classOf(e session.Event) string {
	switch e.(type) {
	case *session.SessionStarted:
		return "in"
	case *session.SessionEnded, *session.SessionsRevoked:
		return "out"
	case *session.LoginRejected, *session.UserLocked, *session.UserDisabled:
		return "no"
	}
	return ""
}

// The measures of the picture, in its own units.
const (
	pictureLeft  = 120.0
	pictureWide  = 1000.0
	pictureRight = 40.0 // half a label of the time line
	barHigh      = 7.0
	barStep      = 10.0
)

// The page's parts, for its template.
type (
	reportData struct {
		Title, Made, From, To string
		Events, Sessions      int
		Skipped, Hidden       int
		Unmarked              int
		Drawn                 string // until when, where that is not the end
		Width, Height         float64
		Lanes                 []reportLane
		Ticks                 []reportTick
		Rows                  []reportRow
	}
	reportLane struct {
		Name         string
		Y, TextY, To float64
		Bars         []shownBar
		Marks        []shownMark
	}
	shownBar struct {
		X, Y, Width, High float64
		Class, Text       string
		Refreshed         []float64
		Bottom            float64
	}
	shownMark struct {
		X, Y float64
		Text string
	}
	reportTick struct {
		X, To float64
		Text  string
	}
)

// Write writes the page.
func (r *Report) Write(to io.Writer) error {
	local := func(i session.Instant) string {
		if i == 0 {
			return ""
		}
		return i.Time().In(time.Local).Format("2006-01-02 15:04:05 MST")
	}
	d := reportData{Title: r.title, Made: r.made.Format("2006-01-02 15:04:05 MST"), From: local(r.first), To: local(r.last), Events: r.events,
		Sessions: r.Sessions(), Skipped: r.skipped, Hidden: r.hidden, Unmarked: r.unmarked, Drawn: local(r.full), Width: pictureWide, Rows: r.rows}
	for _, b := range r.order {
		if b.to == 0 {
			b.to = min(r.last, b.session.Deadline()) // as far as was looked
		}
	}
	r.lanes(&d)
	if err := reportPage.Execute(to, d); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// x is where an instant stands in the picture.
func (r *Report) x(at session.Instant) float64 {
	long := float64(max(r.drawnTo()-r.first, 1))
	x := pictureLeft + min(max(float64(at-r.first)/long, 0), 1)*(pictureWide-pictureLeft-pictureRight)
	return math.Round(100*x) / 100 // more digits are bytes alone
}

// lanes puts the sessions of each venue into rows, so that none covers another.
func (r *Report) lanes(d *reportData) {
	y := 24.0
	for venue := session.NoVenue; venue <= session.Nebula; venue++ {
		var ends []float64 // of the last bar in each row
		lane := reportLane{Name: venue.String(), Y: y}
		top := y + 14 // above it the refused logins
		for _, b := range r.order {
			if b.venue != venue {
				continue
			}
			from, to := r.x(b.from), max(r.x(b.to), r.x(b.from)+2)
			row := slices.IndexFunc(ends, func(end float64) bool { return end+1 < from })
			if row < 0 {
				row, ends = len(ends), append(ends, 0)
			}
			ends[row] = to
			bar := shownBar{X: from, Y: top + barStep*float64(row), Width: to - from, High: barHigh, Class: "open",
				Text: fmt.Sprintf("%s %s from %s", b.user, b.id, clockTime(b.from))}
			bar.Bottom = bar.Y + barHigh
			if b.reason != "" {
				bar.Class = "ended " + b.reason
				bar.Text += fmt.Sprintf(" to %s, %s", clockTime(b.to), b.reason)
			}
			for _, at := range b.refreshed {
				bar.Refreshed = append(bar.Refreshed, r.x(at))
			}
			lane.Bars = append(lane.Bars, bar)
		}
		for _, m := range r.marks {
			if m.venue == venue {
				lane.Marks = append(lane.Marks, shownMark{r.x(m.at), y + 9, m.text + " at " + clockTime(m.at)})
			}
		}
		if len(lane.Bars)+len(lane.Marks) == 0 {
			continue
		}
		lane.TextY = y + 12
		y = top + barStep*float64(max(len(ends), 1)) + 6
		lane.To = y - 3
		d.Lanes = append(d.Lanes, lane)
	}
	d.Height = y + 4
	d.Ticks = r.ticks(y)
}

// ticks are the labels of the time line, each once: a line without length has one.
func (r *Report) ticks(low float64) (ticks []reportTick) {
	const steps = 6
	long := r.drawnTo() - r.first
	form := "2006-01-02"
	switch {
	case long <= session.Instant(10*time.Second):
		form = "15:04:05.000"
	case long <= session.Instant(20*time.Hour): // an hour of the day stands once
		form = "15:04:05"
	case long <= session.Instant(300*24*time.Hour):
		form = "Jan 2 15:04"
	}
	if r.first == 0 {
		return nil
	}
	for i := range steps + 1 {
		at := r.first + session.Instant(float64(long)/steps*float64(i))
		text := at.Time().In(time.Local).Format(form)
		if n := len(ticks); n == 0 || ticks[n-1].Text != text {
			ticks = append(ticks, reportTick{r.x(at), low, text})
		}
	}
	return ticks
}
