//go:build seeded

package session

var sown string

// Sow has the program show a bug. It is called before anything else runs.
func Sow(bug string) { sown = bug }

// Seeded says whether the bug is sown.
func Seeded(bug string) bool { return sown != "" && sown == bug }
