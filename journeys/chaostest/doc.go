// Package chaostest runs Rollbook as it is deployed, breaks it on purpose, and judges what its clients saw.
//
// A [Site] is a bus of three servers, engines that write, and adapter pods, all real processes of this machine, each with
// the credentials of its role, tied together by links that can be cut. Clients ([Load]) log in, refresh, log out, redeem one-time tokens and check tokens
// through real sockets, and note each call in a [History]. Meanwhile faults ([Fault]) are injected: a process is killed
// or paused, a server loses its disk or its network. When all is healed each session is asked about once more, the
// book is read from its first page ([Site.Audit]), and [Check] compares what was seen with what may be.
//
// Invariants:
//   - A call without an answer, or with "unavailable", may or may not have happened. It is never taken for either.
//   - A session's logins, refreshes and logouts are linearizable: there is one order, in keeping with real time, that
//     explains all answers. Checks of tokens may be answered from the past, within the bound that pods promise.
//   - Times are of one clock, this machine's, which only goes forward.
//   - No token stands in a history: calls are tied together by hashes.
package chaostest
