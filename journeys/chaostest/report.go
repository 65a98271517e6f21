package chaostest

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Report is all that a run has to say.
type Report struct {
	Command  string // how to do it again
	Seed     uint64
	Config   Config
	Length   time.Duration
	Faults   []Took
	Verdict  Verdict
	Audited  Audited
	Compared []string // what differs between the books and the history
}

// Clean says whether nothing was found that must not be.
func (r Report) Clean() bool {
	return len(r.Verdict.Violations) == 0 && len(r.Audited.Wrong) == 0 && len(r.Compared) == 0
}

// Markdown writes the report.
func (r Report) Markdown(w io.Writer) {
	fmt.Fprintf(w, "`%s`\n\n", r.Command)
	fmt.Fprintf(w, "Seed %d, %s; %d servers, %d engines, %d pods, %d partitions, %d users with two clients each.\n\n",
		r.Seed, r.Length.Round(time.Second), r.Config.Servers, r.Config.Engines, r.Config.Pods, r.Config.Partitions, r.Config.Users)
	fmt.Fprintf(w, "| calls | without an answer | sessions | one-time tokens | pages | events | epochs |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	fmt.Fprintf(w, "| %d | %d | %d | %d | %d | %d | %d |\n\n", r.Verdict.Ops, r.Verdict.Unknown, r.Verdict.Sessions, r.Verdict.OneTime,
		r.Audited.Pages, r.Audited.Events, r.Audited.Epochs)
	fmt.Fprintf(w, "| fault | times | first new login: p50 | max | all well again: p50 | max |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, f := range kinds(r.Faults) {
		var logins, healed []time.Duration
		skipped := ""
		for _, took := range r.Faults {
			switch {
			case took.Fault != f:
			case took.Skipped != "":
				skipped = took.Skipped
			default:
				healed = append(healed, took.Healed)
				if took.Login > 0 {
					logins = append(logins, took.Login)
				}
			}
		}
		if skipped != "" {
			fmt.Fprintf(w, "| %s | not injected: %s | | | | |\n", f, skipped)
			continue
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %s |\n", f, len(healed), at(logins, 0.5), at(logins, 1), at(healed, 0.5), at(healed, 1))
	}
	found := slices.Concat(r.Audited.Wrong, r.Compared)
	for _, v := range r.Verdict.Violations {
		found = append(found, v.String())
	}
	if len(found) == 0 {
		fmt.Fprintf(w, "\nNothing was found that must not be.\n")
		return
	}
	fmt.Fprintf(w, "\n%d things were found that must not be:\n\n", len(found))
	for i, text := range found {
		if i == 30 {
			fmt.Fprintf(w, "- and %d more\n", len(found)-i)
			break
		}
		fmt.Fprintf(w, "- %s\n", strings.TrimSpace(text))
	}
}

func kinds(faults []Took) []Fault {
	var list []Fault
	for _, took := range faults {
		if !slices.Contains(list, took.Fault) {
			list = append(list, took.Fault)
		}
	}
	slices.SortFunc(list, func(a, b Fault) int { return cmp.Compare(a, b) })
	return list
}

// at is a quantile, for people.
func at(times []time.Duration, quantile float64) string {
	if len(times) == 0 {
		return ""
	}
	sorted := slices.Clone(times)
	slices.Sort(sorted)
	return sorted[min(len(sorted)-1, int(quantile*float64(len(sorted))))].Round(time.Millisecond).String()
}
