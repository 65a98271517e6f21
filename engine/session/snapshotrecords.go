package session

// The kinds of records. Never reuse one.
const (
	recordHead = 1 + iota
	recordUser
	recordSession // of the user before
	recordSpent   // of the session before
	recordOneTime // of the user before
	recordEnded
	recordNonce
	recordStranger
	recordResource
	recordLifetimes
	recordEnd
)

// maxSpentKeys bounds a record of spent tokens: a session that was refreshed more often has several.
const maxSpentKeys = 1024

type headRecord struct {
	version uint64
	clock   Instant
}

type userRecord struct {
	id UserID
	user
}

type endedRecord struct {
	ending
	at Instant
}

type nonceRecord struct {
	nonce TokenHash
	at    Instant
}

type lifetimesRecord struct {
	venue Venue
	Lifetimes
}

type (
	spentRecord    struct{ keys []TokenKey }
	strangerRecord struct{ stranger }
	endRecord      struct{ records uint64 }
)

func (r *headRecord) fields(c *coder) {
	c.uint(&r.version)
	c.instant(&r.clock)
}

func (r *userRecord) fields(c *coder) {
	text(c, &r.id)
	c.bool(&r.registered)
	c.bool(&r.disabled)
	c.uint(&r.credential)
	c.uint32(&r.failures)
	c.uint32(&r.rejected)
	c.instant(&r.lastFailure)
	c.instant(&r.lockedUntil)
	c.instant(&r.lastLogin)
}

// fields leaves the user out: a session's record comes after its user's.
func (l *live) fields(c *coder) {
	c.id((*[16]byte)(&l.ID))
	c.id((*[16]byte)(&l.Handle))
	code(c, &l.Venue)
	text(c, &l.Client)
	c.bool(&l.Bound)
	c.id((*[16]byte)(&l.Pod))
	c.uint32(&l.Generation)
	c.instant(&l.Started)
	c.instant(&l.LastActive)
	c.instant(&l.Until)
	c.duration(&l.Idle)
	c.hash(&l.Access)
	c.instant(&l.AccessUntil)
	c.duration(&l.AccessIdle)
	c.hash(&l.Refresh)
	c.instant(&l.RefreshUntil)
	c.hash(&l.Spent)
	c.instant(&l.SpentUntil)
	c.uint32(&l.Failed)
	c.uint32(&l.Rejected)
	c.instant(&l.PreviousLogin)
	texts(c, &l.Scopes)
}

func (r *spentRecord) fields(c *coder) {
	list(c, &r.keys, func(key *TokenKey, c *coder) { c.id((*[16]byte)(key)) })
}

// fields leaves the user out too.
func (t *oneTime) fields(c *coder) {
	c.hash(&t.token)
	c.id((*[16]byte)(&t.session))
	code(c, &t.venue)
	c.instant(&t.until)
}

func (r *endedRecord) fields(c *coder) {
	c.id((*[16]byte)(&r.id))
	c.id((*[16]byte)(&r.handle))
	text(c, &r.user)
	code(c, &r.venue)
	c.instant(&r.at)
}

func (r *nonceRecord) fields(c *coder) {
	c.hash(&r.nonce)
	c.instant(&r.at)
}

func (r *strangerRecord) fields(c *coder) {
	text(c, &r.user)
	c.instant(&r.since)
}

func (r *lifetimesRecord) fields(c *coder) {
	code(c, &r.venue)
	r.Lifetimes.fields(c)
}

func (r *endRecord) fields(c *coder) { c.uint(&r.records) }
