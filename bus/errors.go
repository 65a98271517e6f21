package bus

import "errors"

// What a caller can meet. Each comment says what to do about it.
var (
	// ErrDataDirInUse: another process holds the data directory. Connect to
	// that process (FindRunning) or stop it.
	ErrDataDirInUse = errors.New("the data directory is in use by another process")
	// ErrClosed: the bus, submitter or intake was closed. Do not go on.
	ErrClosed = errors.New("the bus is closed")
	// ErrUnreachable: the bus did not answer. Nothing is known; try again later.
	ErrUnreachable = errors.New("the bus does not answer")

	// ErrTLS: the server's certificate or ours is no good, or only one of the two
	// sides wants TLS. The text says which; nothing gets better by trying again.
	ErrTLS = errors.New("no secure connection to the bus")
	// ErrNotPermitted: the server refuses it to this user. Another credential is
	// needed; trying again gives the same answer.
	ErrNotPermitted = errors.New("the bus does not permit it to this user")

	// ErrExists: Create found a book. Open it instead.
	ErrExists = errors.New("a book exists already")
	// ErrNotCreated: Open found nothing. Check the setting; Create if it is right.
	ErrNotCreated = errors.New("no book has been created here")
	// ErrUnfinished: a Create was cut short. Nothing is written yet: Create with
	// the layout that Open gives beside this error completes it.
	ErrUnfinished = errors.New("the book was not created to the end")
	// ErrRestoring: a restore was cut short, or is under way. Part of the pages may
	// be missing: repeat the restore, with the same backup, to its end.
	ErrRestoring = errors.New("the book is being restored from a backup, or that was cut short")
	// ErrNoCommands: all is there but COMMANDS, which does not outlive a server that
	// stands alone. The next writer to start makes it.
	ErrNoCommands = errors.New("the command stream is missing: the next writer to start makes it")
	// ErrLayout: what is there is not what a book must be. An operator has to
	// look: nothing may be written to it.
	ErrLayout = errors.New("the stored layout is not as it must be")

	// ErrNotDurable: a server acknowledges before it has fsynced. Do not start a
	// writer unless the operator accepts the loss window.
	ErrNotDurable = errors.New("acknowledged appends are not on disk")
	// ErrDurabilityUnknown: nothing permits to ask. Treat as ErrNotDurable.
	ErrDurabilityUnknown = errors.New("it can not be found out whether acknowledged appends are on disk")

	// ErrDamagedPage: the bytes are not a page as it was written. Stop and tell
	// an operator: never skip a page.
	ErrDamagedPage = errors.New("damaged page")
	// ErrPageVersion: the page was written by a newer program. Update this one.
	ErrPageVersion = errors.New("page of an unknown version")

	// ErrConflict: another page stands where this one was to go, and this one was
	// not stored. Stop writing, replay, and see who leads.
	ErrConflict = errors.New("the book has moved on")
	// ErrInFlight: another append was being stored at that moment, and this one was
	// not stored. Replay before the next append, as after a conflict.
	ErrInFlight = errors.New("another append is in flight")
	// ErrOutcomeUnknown: the page may or may not be stored, now or in a moment.
	// Read the book before anything else.
	ErrOutcomeUnknown = errors.New("it is not known whether the page was stored")
	// ErrNotStored: the page was refused and certainly not stored. The state in
	// memory must still be rebuilt; the cause needs an operator (disk, limits).
	ErrNotStored = errors.New("the page was refused")
	// ErrGap: pages are missing between two others. Stop and tell an operator.
	ErrGap = errors.New("pages are missing from the book")

	// ErrFeedBatch: the server's limit of messages in a batch is lower. Try again
	// with half as many.
	ErrFeedBatch = errors.New("the batch is too large for the server")

	// ErrDamagedSnapshot: a snapshot is not as it was written, or was overwritten
	// while it was read. It is of no use; the book has all that it had.
	ErrDamagedSnapshot = errors.New("damaged snapshot")
	// ErrNewerSnapshot: a newer program keeps snapshots here. Write none: it could
	// not read them. Update this program.
	ErrNewerSnapshot = errors.New("the snapshots are a newer program's")

	// ErrNotAccepted: the command was refused every time it was offered. It has
	// not happened and will not.
	ErrNotAccepted = errors.New("the command was not accepted")
	// ErrNoOutcome: the command may or may not have happened. Submitting the same
	// id again is safe.
	ErrNoOutcome = errors.New("no outcome of the command arrived")
	// ErrCommandsReplaced: COMMANDS is no longer the stream the intake was reading.
	// Close the intake and open another; commands in the old stream are gone,
	// and their senders repeat them.
	ErrCommandsReplaced = errors.New("the command stream was replaced")
)
