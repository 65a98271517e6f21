package history

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rollbook/engine/session"
)

// The oracle knows nothing of rolls, snapshots or the state: it goes through all events again for each session and each
// question, and does the arithmetic by hand.

// stay is one session as the oracle sees it, from the events up to an instant.
type stay struct {
	user     session.UserID
	venue    session.Venue
	from     session.Instant
	deadline session.Instant
	ended    session.Instant // zero: no event ended it
	why      session.EndReason
}

// stays goes through the events up to and including the instant.
func stays(events []session.Event, until session.Instant) map[session.SessionID]stay {
	all := map[session.SessionID]stay{}
	for i, event := range events {
		start, is := event.(*session.SessionStarted)
		if !is || start.At > until {
			continue
		}
		s := stay{user: start.User, venue: start.Venue, from: start.At}
		used := start.At
		for _, later := range events[i+1:] {
			if later.When() > until || s.ended != 0 {
				break
			}
			switch e := later.(type) {
			case *session.SessionRefreshed:
				if e.Session == start.Session {
					used = e.At
				}
			case *session.SessionTouched:
				if e.Session == start.Session {
					used = e.At
				}
			case *session.SessionEnded:
				if e.Session == start.Session {
					s.ended, s.why = e.At, e.Reason
				}
			case *session.SessionsRevoked:
				if (e.Venue == 0 || e.Venue == start.Venue) && (e.Client == "" || e.Client == start.Client) && (e.Before == 0 || start.At < e.Before) {
					s.ended, s.why = e.At, session.Revoked
				}
			}
		}
		s.deadline = start.Until
		if start.Idle > 0 {
			s.deadline = min(s.deadline, used+session.Instant(start.Idle))
		}
		all[start.Session] = s
	}
	return all
}

// over is when a stay was over, as far as the whole book tells.
func (s stay) over() (at session.Instant, why session.EndReason) {
	if s.ended != 0 && s.ended < s.deadline {
		return s.ended, s.why
	}
	return s.deadline, session.Expired
}

// TestAtIsTheNaiveReplay: on random histories, at instants before, on, between and after all that happens, who was
// logged in is who a naive replay of all events finds; with the lists and without.
func TestAtIsTheNaiveReplay(t *testing.T) {
	met := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		lives := []*life{lifeOf(0, 2), lifeOf(1, 2)}
		for _, l := range lives {
			for range rapid.IntRange(0, 25).Draw(t, "pages") {
				l.step(t)
			}
		}
		lives[1].index(t)
		r := readerOf(lives[0].book, lives[1].book)
		moments := []session.Instant{base - 1, base, lives[0].now, lives[1].now + 500}
		for range 6 {
			moments = append(moments, base+session.Instant(rapid.Int64Range(0, int64(max(lives[0].now, lives[1].now)-base)+40).Draw(t, "moment")))
		}
		for _, at := range moments {
			for _, user := range []session.UserID{"", lives[1].users[0]} {
				got, err := r.At(t.Context(), at, user)
				if err != nil {
					t.Fatal(err)
				}
				want := map[string]string{}
				for _, l := range lives {
					clock := base - 1 // of this book
					for _, page := range l.book.pages {
						p, err := open(page)
						if err != nil {
							t.Fatal(err)
						}
						clock = p.time
					}
					final := stays(l.events, session.Forever)
					for id, s := range stays(l.events, at) {
						if s.ended != 0 || at >= s.deadline || user != "" && s.user != user {
							continue
						}
						until, why := final[id].over()
						isOpen := final[id].ended == 0 && clock < until
						if isOpen {
							why = 0
						}
						met[why.String()]++
						want[id.String()] = fmt.Sprint(s.user, s.venue, s.from, s.deadline, until, why, isOpen)
					}
				}
				found := map[string]string{}
				for _, p := range got {
					found[p.ID.String()] = fmt.Sprint(p.User, p.Venue, p.Started, p.Deadline(), p.Until, p.Reason, p.Open)
					if p.Start.Session != p.ID {
						t.Fatalf("%s began with the event of %s", p.ID, p.Start.Session)
					}
				}
				if diff := cmp.Diff(want, found); diff != "" || len(found) != len(got) {
					t.Fatalf("at %d of %d, user %q:\n%s", at-base, max(lives[0].now, lives[1].now)-base, user, diff)
				}
			}
		}
	})
	if len(met) == 0 {
		t.Error("nobody was ever there")
	}
	t.Logf("those who were there left by: %v", met)
}

// TestDeadlineIsExact: to the nanosecond, and before the event that says so.
func TestDeadlineIsExact(t *testing.T) {
	book := newMemory(0)
	head := func(at session.Instant) session.Header { return session.Header{At: base + at, User: "jane"} }
	book.append(t, base, &session.SessionStarted{Header: head(0), Session: session.SessionID{1}, Venue: session.Zenith, Until: base + 100, Idle: 30})
	book.append(t, base+20, &session.SessionTouched{Header: head(20), Session: session.SessionID{1}})
	book.append(t, base+900, &session.SessionEnded{Header: head(900), Session: session.SessionID{1}, Reason: session.Expired})
	for at, want := range map[session.Instant]int{-1: 0, 0: 1, 29: 1, 30: 1, 49: 1, 50: 0, 899: 0, 900: 0} {
		got, err := readerOf(book).At(t.Context(), base+at, "")
		must(t, err)
		if len(got) != want {
			t.Errorf("at %d there are %d", at, len(got))
		}
		if len(got) == 1 && (got[0].Until != base+50 || got[0].Reason != session.Expired || got[0].Open) {
			t.Errorf("at %d: until %d by %s", at, got[0].Until-base, got[0].Reason)
		}
	}
}

// TestCountIsTheNaiveCount: logins, refusals, ends and peaks of random histories, against counting by hand.
func TestCountIsTheNaiveCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lives := []*life{lifeOf(0, 2), lifeOf(1, 2)}
		var last session.Instant
		for _, l := range lives {
			for range rapid.IntRange(1, 20).Draw(t, "pages") {
				l.step(t)
			}
			if n := len(l.events); n > 0 {
				last = max(last, l.events[n-1].When())
			}
		}
		what := Counted{Venue: rapid.SampledFrom([]session.Venue{session.NoVenue, session.Genesis}).Draw(t, "venue")}
		if rapid.Bool().Draw(t, "bounded") {
			what.From = base + session.Instant(rapid.IntRange(0, 60).Draw(t, "from"))
			what.To = what.From + session.Instant(rapid.IntRange(1, 100).Draw(t, "long"))
		}
		got, err := readerOf(lives[0].book, lives[1].book).Count(t.Context(), what)
		if err != nil {
			t.Fatal(err)
		}
		within := func(at session.Instant) bool { return at >= what.From && (what.To == 0 || at < what.To) }
		ofVenue := func(v session.Venue) bool { return what.Venue == 0 || v == what.Venue }
		var logins, peak uint64
		refusals, ends := map[session.Refusal]uint64{}, map[session.EndReason]uint64{}
		type visit struct{ from, to session.Instant }
		var visits []visit
		for _, l := range lives {
			clock := l.events[len(l.events)-1].When()
			for _, e := range l.events {
				if e, is := e.(*session.LoginRejected); is && within(e.At) && ofVenue(e.Venue) {
					refusals[e.Refusal]++
				}
			}
			for _, s := range stays(l.events, session.Forever) {
				if !ofVenue(s.venue) {
					continue
				}
				if within(s.from) {
					logins++
				}
				at, why := s.over()
				visits = append(visits, visit{s.from, at})
				if within(at) && at <= clock {
					ends[why]++
				}
			}
		}
		for _, v := range visits { // the most at once is reached when somebody comes, or at the beginning
			for _, at := range []session.Instant{v.from, what.From} {
				n := uint64(0)
				for _, other := range visits {
					if other.from <= at && at < other.to && within(at) {
						n++
					}
				}
				peak = max(peak, n)
			}
		}
		if got.Logins != logins || !maps.Equal(got.Refusals, refusals) || !maps.Equal(got.Ends, ends) {
			t.Fatalf("%d logins, refusals %v, ends %v\nby hand %d, %v, %v", got.Logins, got.Refusals, got.Ends, logins, refusals, ends)
		}
		if len(got.Stretches) > 0 && got.Peak != peak {
			t.Fatalf("the peak is %d, by hand %d", got.Peak, peak)
		}
	})
}

// TestStretches: hours and days begin where the zone's do, also on the days when its clocks change.
func TestStretches(t *testing.T) {
	zone := time.FixedZone("half past", int((5*time.Hour + 30*time.Minute).Seconds()))
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		berlin = zone // a machine without zones: the days below are then 24 hours
	}
	at := func(text string) session.Instant {
		moment, err := time.Parse(time.RFC3339, text)
		must(t, err)
		return session.At(moment)
	}
	book := newMemory(0)
	for i, text := range []string{"2026-10-24T12:00:00Z", "2026-10-25T00:59:59Z", "2026-10-25T01:00:00Z", "2026-10-26T12:10:00Z"} {
		start := at(text)
		book.append(t, start, &session.SessionStarted{Header: session.Header{At: start, User: "jane"}, Session: session.SessionID{byte(i + 1)},
			Venue: session.Zenith, Until: start.Add(90 * time.Minute)})
	}
	hours, err := readerOf(book).Count(t.Context(), Counted{By: ByHour, Zone: zone})
	must(t, err)
	if n := len(hours.Stretches); n != 49 || hours.Logins != 4 || hours.Peak != 2 || hours.PeakAt != at("2026-10-25T01:00:00Z") {
		t.Errorf("%d hours, %d logins, peak %d at %s", n, hours.Logins, hours.Peak, hours.PeakAt.Time())
	}
	for i, s := range hours.Stretches {
		if s.From.Time().In(zone).Minute() != 0 || i > 0 && s.From != hours.Stretches[i-1].From.Add(time.Hour) {
			t.Fatalf("hour %d begins %s", i, s.From.Time().In(zone))
		}
	}
	days, err := readerOf(book).Count(t.Context(), Counted{By: ByDay, Zone: berlin})
	must(t, err)
	var begins []int
	for _, s := range days.Stretches {
		begins = append(begins, s.From.Time().In(berlin).Hour(), s.From.Time().In(berlin).Day())
	}
	if !slices.Equal(begins, []int{0, 24, 0, 25, 0, 26}) {
		t.Errorf("the days begin at hour and day %v", begins)
	}
	if days.Stretches[1].Logins != 2 || days.Stretches[1].Peak != 2 || days.Stretches[0].Peak != 1 {
		t.Errorf("%+v", days.Stretches)
	}
}
