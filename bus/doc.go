// Package bus is how commands and pages travel.
//
// An adapter's [Submitter] publishes a command to COMMANDS; the writer's
// [Intake] takes every command that waits; the writer appends one page to its
// [Book], fenced by the last sequence it knows, and answers each command at the
// inbox that came with it; followers read the book by batched direct get and go
// on with the republished live pages. [StartEmbedded] runs the server in this
// process, [Connect] reaches one elsewhere; both give a [Bus], and what holds
// on one holds on the other.
//
// Invariants:
//   - What the package carries is opaque: it reads neither commands nor events.
//     Nothing secret is put on it, and nothing it carries is logged.
//   - Only [Bus.Create] makes a book. A mistyped setting finds nothing; it never
//     starts a second history.
//   - Nothing is appended to a book without the sequence it must follow. A page
//     is in the book once, or not at all, or its outcome is called unknown.
//   - Readers get pages in order and without gaps, or an error.
//   - A snapshot is checked against its list, and the list against the book. What
//     does not agree is as if it were not there.
//   - A command may be lost or delivered twice at any point before its page is
//     on disk. Its id is what makes that harmless, and the writer's duty.
package bus
