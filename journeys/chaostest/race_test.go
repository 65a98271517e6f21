//go:build race

package chaostest

// raced: the processes of a site are built without the race detector, so a run under it would only take longer.
const raced = true
