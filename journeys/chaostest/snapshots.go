package chaostest

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"

	"rollbook/bus"
)

// snapshotted are the partitions that have a snapshot, as their writers say.
func (s *Site) snapshotted() map[bus.Partition]bool {
	found := map[bus.Partition]bool{}
	for _, n := range s.engines {
		response, err := s.client.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", n.base))
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			var p int
			var age float64
			if _, err := fmt.Sscanf(lines.Text(), `rollbook_snapshot_age_seconds{partition="%d"} %g`, &p, &age); err == nil && age >= 0 {
				found[bus.Partition(p)] = true
			}
		}
		response.Body.Close()
	}
	return found
}

// What processes say when they begin with a snapshot.
var (
	engineBegan = regexp.MustCompile(`msg="read the book" partition=(\d+) after=[1-9]`)
	podBegan    = regexp.MustCompile(`msg="began with a snapshot" partition=(\d+) `)
)

// Reborn kills an engine and a pod and starts them again, and says what is wrong with how they began: with the newest
// snapshot of each partition that has one, and one there must be.
func (s *Site) Reborn(ctx context.Context) []string {
	var there map[bus.Partition]bool
	if err := until(patience, "a snapshot", func() bool { there = s.snapshotted(); return len(there) > 0 }); err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for n, began := range map[*node]*regexp.Regexp{s.engines[0]: engineBegan, s.pods[0]: podBegan} {
		n.kill()
		if err := n.start(); err != nil {
			return []string{err.Error()}
		}
		if err := until(patience, n.name, func() bool { return ctx.Err() != nil || s.status(n, "/readyz") == http.StatusOK }); err != nil {
			return []string{err.Error()}
		}
		with := map[string]bool{}
		for _, line := range began.FindAllStringSubmatch(n.life(), -1) {
			with[line[1]] = true
		}
		for _, p := range slices.Sorted(maps.Keys(there)) {
			if !with[p.String()] {
				wrong = append(wrong, fmt.Sprintf("%s began partition %s without its snapshot", n.name, p))
			}
		}
	}
	return wrong
}
