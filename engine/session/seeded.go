//go:build !seeded

package session

// Seeded says whether a bug is sown into this program: never, but in the one that journeys/chaostest builds with the tag
// seeded, to see that its checker finds what it is there to find.
func Seeded(string) bool { return false }
