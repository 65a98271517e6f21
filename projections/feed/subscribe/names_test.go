package subscribe

import (
	"strings"
	"testing"

	"rollbook/bus"
	"rollbook/engine/session"
)

// SameSubjects compares the names with the bus's.
func SameSubjects(t *testing.T, user, event, bell, feed string) {
	t.Helper()
	if got := subjectEvents + "3." + token(session.UserID(user)) + ".SessionEnded"; got != event {
		t.Errorf("an event of %q is looked for at %s, and stands at %s", user, got, event)
	}
	if got := strings.ReplaceAll(subjectBells, "*", "3"); got != bell || stream != feed {
		t.Errorf("the bell is %s, and of %s, not %s and %s", got, stream, bell, feed)
	}
	if headerPosition != bus.HeaderPosition || headerTime != bus.HeaderTime {
		t.Error("the headers are not the bus's")
	}
}
