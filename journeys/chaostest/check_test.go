package chaostest

import (
	"strings"
	"testing"
	"time"
)

// script writes a history in words: one call a line, "BEGIN END POD kind token -> outcome [access renews]"; times in
// milliseconds. All calls are of session 1.
func script(t *testing.T, venue Venue, text string) []Op {
	t.Helper()
	var ops []Op
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		number := func(word string) time.Duration {
			d, err := time.ParseDuration(word + "ms")
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			return d
		}
		op := Op{Session: 1, Venue: venue, Begin: number(words[0]), End: number(words[1]), Pod: words[2], Kind: Kind(words[3]),
			Token: Token(words[4]), Outcome: Outcome(words[6])}
		if words[5] != "->" {
			t.Fatalf("%q has no arrow", line)
		}
		if len(words) > 7 {
			op.Access = Token(words[7])
		}
		if len(words) > 8 {
			op.Renews = Token(words[8])
		}
		ops = append(ops, op)
	}
	return ops
}

// TestJudge holds the checker to histories whose verdict is known. Each rule is broken at least once, and each is
// answered by a history that looks alike and is right.
func TestJudge(t *testing.T) {
	bounds := Bounds{Stale: 3 * time.Second, OneTime: 20 * time.Second, Access: 250 * time.Second}
	for _, c := range []struct {
		name  string
		venue Venue
		text  string
		rule  string // "": nothing is wrong
	}{
		{"a life", Genesis, `
			0 10 a login - -> yes A1 R
			20 30 b check A1 -> yes
			40 50 b refresh R -> yes A2 R
			55 60 b check A1 -> no
			60 70 a check A2 -> yes
			80 90 a logout A2 -> yes
			95 99 a check A2 -> no`, ""},
		{"a lost login", Genesis, `
			0 10 a login - -> yes A1 R
			20 30 b check A1 -> no`, RuleLost},
		{"a lost login, found by its refresh", Genesis, `
			0 10 a login - -> yes A1 R
			20 30 b refresh R -> no`, RuleOrder},
		{"the grant is not answered yet", Genesis, `
			0 10 a login - -> yes A1 R
			15 40 b refresh R -> yes A2 R
			20 30 b check A2 -> no`, ""},
		{"an unanswered logout may have ended it", Genesis, `
			0 10 a login - -> yes A1 R
			20 30 b logout A1 -> unknown
			40 50 b check A1 -> no
			60 70 b refresh R -> no`, ""},
		{"an unanswered logout may still end it", Genesis, `
			0 10 a login - -> yes A1 R
			20 30 b logout A1 -> unknown
			40 50 b refresh R -> yes A2 R`, ""},
		{"revived at the pod that said so", Genesis, `
			0 10 a login - -> yes A1 R
			20 30 b logout A1 -> yes
			31 40 b check A1 -> yes`, RuleRevived},
		{"stale within the bound at another pod", Genesis, `
			0 10 a login - -> yes A1 R
			20 30 b logout A1 -> yes
			2900 2910 a check A1 -> yes`, ""},
		{"stale beyond the bound", Genesis, `
			0 10 a login - -> yes A1 R
			20 30 b logout A1 -> yes
			3900 3910 a check A1 -> yes`, RuleRevived},
		{"revived by a refresh", Genesis, `
			0 10 a login - -> yes A1 R
			20 30 b logout A1 -> yes
			40 50 a refresh R -> yes A2 R`, RuleOrder},
		{"a refresh beside the logout", Genesis, `
			0 10 a login - -> yes A1 R
			20 60 b logout A1 -> yes
			40 50 a refresh R -> no`, ""},
		{"the old access token of a session that was refreshed", Genesis, `
			0 10 a login - -> yes A1 R
			20 30 a refresh R -> yes A2 R
			40 50 a check A1 -> yes`, RuleRevived},
		{"a rotation", TraderEvolution, `
			0 10 a login - -> yes A1 R1
			20 30 a refresh R1 -> yes A2 R2
			40 50 b refresh R1 -> yes A2 R2
			60 70 b refresh R2 -> yes A3 R3
			80 90 c check A3 -> yes`, ""},
		{"two branches", TraderEvolution, `
			0 10 a login - -> yes A1 R1
			20 30 a refresh R1 -> yes A2 R2
			40 50 b refresh R1 -> yes A3 R3`, RuleBranches},
		{"grace to any generation", TraderEvolution, `
			0 10 a login - -> yes A1 R1
			20 30 a refresh R1 -> yes A2 R2
			40 50 a refresh R2 -> yes A3 R3
			60 70 a refresh R1 -> yes A2 R2`, RuleOrder},
		{"reuse ends it", TraderEvolution, `
			0 10 a login - -> yes A1 R1
			20 30 a refresh R1 -> yes A2 R2
			40 50 a refresh R2 -> yes A3 R3
			60 70 a refresh R1 -> no
			80 90 a refresh R3 -> no
			95 99 a check A3 -> no`, ""},
		{"reuse does not end it", TraderEvolution, `
			0 10 a login - -> yes A1 R1
			20 30 a refresh R1 -> yes A2 R2
			40 50 a refresh R2 -> yes A3 R3
			60 70 a refresh R1 -> no
			80 90 a refresh R3 -> yes A4 R4`, RuleOrder},
		{"an unanswered refresh is asked again", TraderEvolution, `
			0 10 a login - -> yes A1 R1
			20 30 a refresh R1 -> unknown
			40 50 b refresh R1 -> yes A2 R2
			60 70 b refresh R2 -> yes A3 R3`, ""},
		{"one redemption", TraderEvolution, `
			0 10 a login - -> yes A1 R1
			20 30 a issue A1 -> yes T
			40 50 a verify T -> yes
			40 50 b verify T -> no`, ""},
		{"two redemptions", TraderEvolution, `
			0 10 a login - -> yes A1 R1
			20 30 a issue A1 -> yes T
			40 50 a verify T -> yes
			45 60 b verify T -> yes`, RuleRedeemed},
		{"no redemption", TraderEvolution, `
			0 10 a login - -> yes A1 R1
			20 30 a issue A1 -> yes T
			40 50 a verify T -> no
			45 60 b verify T -> no`, RuleUnredeemed},
		{"a redemption that was not answered", TraderEvolution, `
			0 10 a login - -> yes A1 R1
			20 30 a issue A1 -> yes T
			40 50 a verify T -> unknown
			45 60 b verify T -> no`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := Judge(script(t, c.venue, c.text), bounds).Violations
			switch {
			case c.rule == "" && len(found) > 0:
				t.Errorf("found %v in a history that is right", found)
			case c.rule != "" && (len(found) == 0 || found[0].Rule != c.rule):
				t.Errorf("found %v, want %q", found, c.rule)
			}
		})
	}
}
