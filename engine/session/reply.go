package session

// Reply is the writer's answer to a command.
type Reply struct {
	Refusal Refusal // Accepted, or why not

	// Session is the session after an accepted Login, Refresh, Logout (what is left of it) or Touch.
	Session Session
	// Repeated says that a Refresh presented the token replaced last and got the same successor again.
	Repeated bool
	// RetryAt is, with Locked, when the account opens again; [Forever]: not by itself.
	RetryAt Instant
	// User is, after Verify, whom the one-time token was issued for.
	User UserID
	// Count is, after Revoke, Disable, ChangeCredential and PodLost, how many sessions were ended.
	Count uint64
	// Lifetimes are, after SetLifetimes, those of the venue's tokens from now on.
	Lifetimes Lifetimes
	// Until is, after IssueOneTime, the first instant at which the token cannot be redeemed any more.
	Until Instant
}

func (r *Reply) fields(c *coder) {
	code(c, &r.Refusal)
	c.bool(&r.Repeated)
	c.instant(&r.RetryAt)
	text(c, &r.User)
	c.uint(&r.Count)
	c.group(r.Session.fields)
	c.group(r.Lifetimes.fields)
	c.instant(&r.Until)
}

func (s *Session) fields(c *coder) {
	c.id((*[16]byte)(&s.ID))
	c.id((*[16]byte)(&s.Handle))
	text(c, &s.User)
	code(c, &s.Venue)
	text(c, &s.Client)
	c.bool(&s.Bound)
	c.uint32(&s.Generation)
	c.instant(&s.Started)
	c.instant(&s.LastActive)
	c.instant(&s.Until)
	c.duration(&s.Idle)
	c.hash(&s.Access)
	c.instant(&s.AccessUntil)
	c.duration(&s.AccessIdle)
	c.hash(&s.Refresh)
	c.instant(&s.RefreshUntil)
	c.hash(&s.Spent)
	c.instant(&s.SpentUntil)
	c.uint32(&s.Failed)
	c.uint32(&s.Rejected)
	c.instant(&s.PreviousLogin)
	texts(c, &s.Scopes)
	c.id((*[16]byte)(&s.Pod))
}

// Recall is the reply to a command that led to these events, which the state includes by now. The first answer and every
// repeated one come from here: the facts that change in a session's life are taken from the events, only those that
// never change from the state. Of a session that has ended since, the repeated answer holds what the events say.
func (s *State) Recall(events []Event) Reply {
	var r Reply
	for _, e := range events {
		switch e := e.(type) {
		case *LoginRejected:
			r.Refusal, r.RetryAt = e.Refusal, e.RetryAt
		case *SessionStarted:
			r.Session = e.Begin()
		case *SessionRefreshed:
			r.Session = s.base(e.Session, e.User)
			e.Renew(&r.Session)
			r.Session.Spent, r.Session.SpentUntil = TokenHash{}, e.SpentUntil // which one was replaced, no event says
		case *SessionTouched:
			r.Session = s.base(e.Session, e.User)
			e.Note(&r.Session)
		case *SessionEnded:
			r.Count++
			if e.Reason == Reused {
				r.Refusal = ReusedToken
			}
			if r.Session.ID == (SessionID{}) {
				r.Session = Session{ID: e.Session, User: e.User}
			}
		case *SessionsRevoked:
			r.Count = e.Count
		case *OneTimeIssued:
			r.Until = e.Until
		case *OneTimeRedeemed:
			r.User = e.User
		case *LifetimesSet:
			r.Lifetimes = e.Lifetimes
		}
	}
	return r
}

func (s *State) base(id SessionID, user UserID) Session {
	if l := s.sessions[id]; l != nil {
		return l.Session
	}
	return Session{ID: id, User: user}
}
