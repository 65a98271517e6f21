package main

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"rollbook/engine/session"
)

// momentForms are the ways to write a time of this machine's zone; a fraction of a second may follow where seconds stand.
var momentForms = []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"}

var days = regexp.MustCompile(`^(\d+)d(.*)$`)

// readMoment reads a time on the command line; none is zero. A time of day is the latest that has come: 23:59 in the morning
// is yesterday's.
func readMoment(option, text string, now time.Time) (session.Instant, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	if at, ok := parseMoment(text, now); ok && session.At(at) > 0 {
		return session.At(at), nil
	}
	return 0, refuse("usage", "%s %q: write a time such as 2026-01-31T18:00:00Z, 2026-01-31 18:00, 18:00:05.250, today, or how long ago, such as 2h or 3d",
		option, text)
}

func parseMoment(text string, now time.Time) (time.Time, bool) {
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch text {
	case "now":
		return now, true
	case "today":
		return midnight, true
	case "yesterday":
		return midnight.AddDate(0, 0, -1), true
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, at.Year() > 1970 && at.Year() < 2262 // what an Instant holds
	}
	for _, form := range momentForms {
		if at, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return at, at.Year() > 1970 && at.Year() < 2262
		}
	}
	for _, form := range []string{"15:04:05", "15:04"} {
		if at, err := time.Parse(form, text); err == nil {
			on := func(day time.Time) time.Time {
				return time.Date(day.Year(), day.Month(), day.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), now.Location())
			}
			if today := on(now); !today.After(now) {
				return today, true
			}
			return on(now.AddDate(0, 0, -1)), true
		}
	}
	return ago(strings.TrimSpace(strings.TrimSuffix(text, "ago")), now)
}

// ago reads how long ago: a duration, in which days may come first.
func ago(text string, now time.Time) (time.Time, bool) {
	if m := days.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > 100_000 {
			return time.Time{}, false
		}
		now, text = now.AddDate(0, 0, -n), m[2]
		if text == "" {
			return now, true
		}
	}
	d, err := time.ParseDuration(text)
	return now.Add(-d), err == nil && d >= 0
}
