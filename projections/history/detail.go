package history

import (
	"fmt"
	"strings"
	"time"

	"rollbook/engine/session"
)

// Detail says on one line what an event has beside its time, user, session, venue and client. It may hold what a client has
// sent.
func Detail(e Entry) string {
	switch event := e.Event.(type) {
	case *session.SessionStarted:
		return strings.TrimSpace(fmt.Sprintf("%s until %s", quoted(event.Client), clockTime(event.Until)))
	case *session.LoginRejected:
		text := event.Refusal.String()
		if event.Failures > 0 {
			text += fmt.Sprintf(", %d in a row", event.Failures)
		}
		if event.RetryAt != 0 {
			text += ", until " + clockTime(event.RetryAt)
		}
		return strings.TrimSpace(text + " " + quoted(event.Client))
	case *session.SessionEnded:
		return event.Reason.String()
	case *session.SessionsRevoked:
		return fmt.Sprintf("%d sessions%s", event.Count, rest(event, "count"))
	case *session.UserLocked:
		return fmt.Sprintf("after %d failures, until %s", event.Failures, clockTime(event.Until))
	}
	return strings.TrimSpace(rest(e.Event))
}

// rest is every other field that is set, by name: without hashes and ids, which say nothing to the eye.
func rest(e session.Event, but ...string) (text string) {
	for _, d := range session.Describe(e) {
		switch d.Value.(type) {
		case session.TokenHash, []session.TokenHash, session.Handle, session.PodID, session.SessionID, []byte:
			continue
		}
		skip := d.Name == "at" || d.Name == "user" || d.Name == "venue"
		for _, name := range but {
			skip = skip || d.Name == name
		}
		if value := d.Text(); value != "" && !skip {
			text += " " + d.Name + "=" + value
		}
	}
	return text
}

func quoted(client string) string {
	if client == "" {
		return ""
	}
	return "\"" + client + "\""
}

// clockTime is a moment for the eye, in this machine's zone.
func clockTime(at session.Instant) string {
	switch at {
	case 0:
		return "never"
	case session.Forever:
		return "an operator unlocks"
	}
	return at.Time().In(time.Local).Format("2006-01-02 15:04:05")
}
