package chaostest

import (
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Violation is something that a correct service never shows.
type Violation struct {
	Rule    string // which promise is broken
	Session int
	Detail  string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: session %d: %s", v.Rule, v.Session, v.Detail)
}

// The promises.
const (
	RuleOrder      = "no order of the calls explains the answers"
	RuleUndecided  = "the order could not be found in time"
	RuleLost       = "an acknowledged session is not known"
	RuleRevived    = "a token is good after its end was acknowledged"
	RuleBranches   = "a refresh token has two successors"
	RuleRedeemed   = "a one-time token was redeemed twice"
	RuleUnredeemed = "a one-time token that nobody redeemed is not known"
)

// Verdict is what came of checking a history.
type Verdict struct {
	Ops, Sessions, Unknown, OneTime int
	Violations                      []Violation
}

// Bounds is what pods promise of answers from memory.
type Bounds struct {
	// Stale is how long after an end was acknowledged another pod may still call the token good.
	Stale time.Duration
	// OneTime is how long a one-time token is good at the least, Access how long an access token is.
	OneTime, Access time.Duration
}

// Judge checks a history.
func Judge(ops []Op, bounds Bounds) Verdict {
	verdict := Verdict{Ops: len(ops)}
	bySession := map[int][]Op{}
	for _, op := range ops {
		if op.Outcome == Unknown {
			verdict.Unknown++
		}
		if op.Session != 0 {
			bySession[op.Session] = append(bySession[op.Session], op)
		}
	}
	ids := make([]int, 0, len(bySession))
	for id := range bySession {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		life := newLife(id, bySession[id])
		if life.login.Outcome != Yes {
			continue
		}
		verdict.Sessions++
		life.judge(&verdict, bounds)
	}
	return verdict
}

// life is all that was seen of one session.
type life struct {
	id      int
	login   Op
	changes []Op // refreshes and logouts
	checks  []Op
	issued  map[Token]Op
	redeem  map[Token][]Op
}

func newLife(id int, ops []Op) life {
	l := life{id: id, issued: map[Token]Op{}, redeem: map[Token][]Op{}}
	for _, op := range ops {
		switch op.Kind {
		case Login:
			l.login = op
		case Refresh, Logout:
			l.changes = append(l.changes, op)
		case Check:
			l.checks = append(l.checks, op)
		case Issue:
			if op.Outcome == Yes {
				l.issued[op.Access] = op
			}
		case Verify:
			l.redeem[op.Token] = append(l.redeem[op.Token], op)
		}
	}
	slices.SortFunc(l.changes, func(a, b Op) int { return int(a.Begin - b.Begin) })
	return l
}

func (l *life) judge(verdict *Verdict, bounds Bounds) {
	broken := func(rule, format string, args ...any) {
		verdict.Violations = append(verdict.Violations, Violation{rule, l.id, string(l.login.Venue) + ": " + fmt.Sprintf(format, args...)})
	}
	l.judgeBranches(broken)
	switch linearizable(l.login, l.changes) {
	case porcupine.Illegal:
		broken(RuleOrder, "%s", l.story())
	case porcupine.Unknown:
		broken(RuleUndecided, "%d calls", len(l.changes))
	}
	for _, check := range l.checks {
		switch check.Outcome {
		case Yes:
			l.judgeYes(check, bounds.Stale, broken)
		case No:
			l.judgeNo(check, bounds.Access, broken)
		}
	}
	verdict.OneTime += len(l.issued)
	l.judgeOneTime(bounds.OneTime, broken)
}

// judgeBranches: a refresh token that rotates gives one successor, however often it is presented.
func (l *life) judgeBranches(broken func(rule, format string, args ...any)) {
	if l.login.Venue != TraderEvolution {
		return
	}
	successor := map[Token]Token{}
	for _, op := range l.changes {
		if op.Kind != Refresh || op.Outcome != Yes {
			continue
		}
		if other, known := successor[op.Token]; known && other != op.Renews {
			broken(RuleBranches, "%s gave %s and %s", op.Token, other, op.Renews)
		}
		successor[op.Token] = op.Renews
	}
}

// judgeYes: a token is not good any more once its end was acknowledged: at once at the process that said so, and within
// the bound everywhere.
func (l *life) judgeYes(check Op, stale time.Duration, broken func(rule, format string, args ...any)) {
	grant, ok := l.grantOf(check.Token)
	if !ok {
		return
	}
	for _, end := range l.changes {
		if !l.ends(grant, end) {
			continue
		}
		bound := stale
		if end.Pod == check.Pod {
			bound = 0
		}
		if end.End+bound < check.Begin {
			broken(RuleRevived, "%s said yes to %s %s after %s had acknowledged its end by a %s", check.Pod, check.Token,
				(check.Begin - end.End).Round(time.Millisecond), end.Pod, end.Kind)
			return
		}
	}
}

// ends says whether the call, as it was answered, ends the token of the grant for certain.
func (l *life) ends(grant, op Op) bool {
	switch {
	case op.Kind == Logout:
		return op.Outcome == Yes
	case op.Outcome == No: // the session had ended, or has ended by this use of an old token
		return true
	case op.Outcome != Yes || op.Access == grant.Access:
		return false
	case l.login.Venue == TraderEvolution:
		return op.Token == grant.Renews
	}
	return op.Begin >= grant.End // a later generation
}

// judgeNo: a token that was granted and not ended by anybody is good everywhere, at once.
func (l *life) judgeNo(check Op, young time.Duration, broken func(rule, format string, args ...any)) {
	grant, ok := l.grantOf(check.Token)
	if !ok || grant.End > check.Begin || check.End-grant.Begin > young {
		return
	}
	for _, op := range l.changes {
		if op.Access == grant.Access && op.Outcome == Yes {
			continue // the grant, or a repeat of it
		}
		if op.Outcome == Unknown && op.Begin < check.End || op.End > grant.Begin && op.Begin < check.End {
			return // may have ended it
		}
	}
	broken(RuleLost, "%s said no (%s) to %s, which %s had granted %s before by a %s", check.Pod, check.Text, check.Token, grant.Pod,
		(check.Begin - grant.End).Round(time.Millisecond), grant.Kind)
}

// grantOf finds the call that gave an access token.
func (l *life) grantOf(access Token) (Op, bool) {
	if l.login.Access == access {
		return l.login, true
	}
	for _, op := range l.changes {
		if op.Outcome == Yes && op.Access == access {
			return op, true
		}
	}
	return Op{}, false
}

// judgeOneTime: a one-time token is redeemed once; and once it can be, if nobody's redemption went unanswered, its
// session lives and it is young.
func (l *life) judgeOneTime(young time.Duration, broken func(rule, format string, args ...any)) {
	for token, calls := range l.redeem {
		yes, unknown, first, last := 0, 0, never, time.Duration(0)
		for _, op := range calls {
			first, last = min(first, op.Begin), max(last, op.End)
			switch op.Outcome {
			case Yes:
				yes++
			case Unknown:
				unknown++
			}
		}
		issued := l.issued[token]
		ending := slices.ContainsFunc(l.changes, func(op Op) bool {
			return op.Begin < last && (op.Outcome != Yes || op.Kind == Logout)
		})
		switch {
		case yes > 1:
			broken(RuleRedeemed, "%d times", yes)
		case yes == 0 && unknown == 0 && !ending && issued.End <= first && last-issued.Begin < young:
			broken(RuleUnredeemed, "%s after it was made", (first - issued.End).Round(time.Millisecond))
		}
	}
}

// story tells the calls of a session that no order explains.
func (l *life) story() string {
	text := fmt.Sprintf("login gave %s/%s", l.login.Access, l.login.Renews)
	for i, op := range l.changes {
		if i == 60 {
			return text + fmt.Sprintf("; and %d more", len(l.changes)-i)
		}
		text += fmt.Sprintf("; %s..%s %s at %s of %s: %s", op.Begin.Round(time.Millisecond), op.End.Round(time.Millisecond), op.Kind, op.Pod, op.Token, op.Outcome)
		if op.Outcome == Yes && op.Kind == Refresh {
			text += fmt.Sprintf(" %s/%s", op.Access, op.Renews)
		}
	}
	return text
}
