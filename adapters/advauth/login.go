package advauth

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// String is the form in which blocks travel: 32 hexadecimal digits in lower case.
func (b block) String() string { return hex.EncodeToString(b[:]) }

// holder is whom a login name stands for.
type holder struct {
	// decoy is what challenges are made for, whether the name is anybody's or not: it is one for all spellings that the
	// directory compares as equal, and the same on all pods however far their directories are.
	decoy session.UserID
	// credential is the user and the generation of the key; of a login without a key, the decoy and no generation. Its
	// verdict is the one on a wrong answer.
	credential session.Credential
	key        block // of a login without one, a dummy
}

// holder looks a login up. It does the same work for a name that nobody has, and for a user without a key.
func (h *Handler) holder(login string) holder {
	decoy := h.gate.Decoy(login)
	found := holder{decoy, session.Credential{User: decoy, Verdict: session.NoSuchUser}, h.challenges.dummy(decoy)}
	user, known := h.gate.Find(login)
	if !known {
		user = decoy // who has no key either, at the same cost
	}
	key, generation, ok := h.gate.Key(user, session.AdvAuth)
	if !known || !ok || len(key) != len(found.key) {
		return found
	}
	found.credential = session.Credential{User: user, Generation: generation, Verdict: session.Mismatched}
	found.key = block(key)
	return found
}

func (f holder) known() bool { return f.credential.Verdict == session.Mismatched }

// challenge answers login/advAuthInit. It writes nothing anywhere, asks the book nothing, and with the
// profile HMAC does not even look whether the login is anybody's.
func (h *Handler) challenge(_ context.Context, c *call) (reply, *fault) {
	e, fault := h.readEntry(c)
	if fault != nil {
		return reply{}, fault
	}
	shown := h.challenges.give(h.gate.Decoy(e.login), h.cfg.Now())
	if h.cfg.Profile == DESFire {
		shown = desfireChallenge(h.holder(e.login).key, shown)
	}
	return reply{body: challengeResp{schemas: bothSchemas, RndB: shown.String(), ExpireInSec: int64(lifetime / time.Second)}}, nil
}

// verdict is what came of judging what a client presents.
type verdict struct {
	holder
	credential session.Credential
	challenge  block             // that was answered
	nonce      session.TokenHash // of it; zero when the answer is wrong, or there was no challenge
}

// judgeAnswer finds out which of the living challenges was answered.
func (h *Handler) judgeAnswer(a answer, now time.Time) verdict {
	found := h.holder(a.login)
	v := verdict{holder: found, credential: found.credential}
	judge := h.cfg.Profile.newJudge(found.key, a)
	h.challenges.alive(found.decoy, now, func(challenge block, nonce func() session.TokenHash) {
		// Which one it was may show in the time: it is what the client knows. That none was does not, beyond one hash.
		if judge.right(challenge) && found.known() {
			v.credential.Verdict, v.challenge, v.nonce = session.Matched, challenge, nonce()
		}
	})
	return v
}

// judgeKey compares a presented key with the user's.
func (h *Handler) judgeKey(login, presented string) verdict {
	found := h.holder(login)
	v := verdict{holder: found, credential: found.credential}
	var key block
	decoded, err := base64.StdEncoding.Strict().DecodeString(presented)
	possible := err == nil && len(decoded) == len(key)
	copy(key[:], decoded)
	if subtle.ConstantTimeCompare(key[:], found.key[:]) == 1 && possible && found.known() {
		v.credential.Verdict = session.Matched
	}
	return v
}

// advAuth answers login/advAuth: the client's answer to a challenge.
func (h *Handler) advAuth(ctx context.Context, c *call) (reply, *fault) {
	e, fault := h.readEntry(c)
	if fault != nil {
		return reply{}, fault
	}
	a, fault := e.answer()
	if fault != nil {
		return reply{}, fault
	}
	now := h.cfg.Now() // one time for all attempts at judging: what is in time when it arrives is in time
	v, grant, fault := h.login(ctx, c, e.login, func() verdict { return h.judgeAnswer(a, now) })
	if fault != nil {
		return reply{}, fault
	}
	body := h.granted(grant)
	answer := reply{body: body}
	if a.hasA {
		proof := h.cfg.Profile.proof(v.key, v.challenge, a, body.Token, body.ExpireInSec)
		answer.proof = &proof
	}
	return answer, nil
}

// plainLogin answers login: the key itself.
func (h *Handler) plainLogin(ctx context.Context, c *call) (reply, *fault) {
	e, fault := h.readEntry(c)
	switch {
	case fault != nil:
		return reply{}, fault
	case e.apiKey == "":
		return reply{}, required("ApiKey")
	}
	_, grant, fault := h.login(ctx, c, e.login, func() verdict { return h.judgeKey(e.login, e.apiKey) })
	if fault != nil {
		return reply{}, fault
	}
	return reply{body: h.granted(grant)}, nil
}

// errOtherNonce begins a login anew.
var errOtherNonce = errors.New("the answer is to another challenge than the login was submitted with")

// maxJudged bounds how often a login is submitted: once to learn the nonce, once with it, and again when the key changes
// meanwhile.
const maxJudged = 4

// login has the gate open a session for what was presented. The gate has the judge wait until this pod's directory is up
// to date, and asks it again when the book knows a newer key all the same; but the nonce is part of the login from its
// beginning. So a judge that comes to another nonce than the login has begins it anew: with a missing nonce the answer
// could be used twice.
func (h *Handler) login(ctx context.Context, c *call, name string, judge func() verdict) (verdict, adapters.Grant, *fault) {
	if !h.logins.Allow() {
		return verdict{}, adapters.Grant{}, tooFast()
	}
	var (
		v       verdict
		fresh   bool // v was found in the attempt before, and has not been used yet
		grant   adapters.Grant
		refused adapters.Refused
		err     = errOtherNonce
	)
	for try := 0; try < maxJudged && errors.Is(err, errOtherNonce); try++ {
		nonce := v.nonce
		grant, refused, err = h.gate.Login(ctx, adapters.Login{
			Venue: session.AdvAuth, Name: name, Form: adapters.GUID, Nonce: nonce, Origin: adapters.OriginOf(c.r),
			Judge: func(context.Context) (session.Credential, error) {
				if !fresh {
					v = judge()
				}
				if fresh = v.nonce != nonce; fresh {
					return session.Credential{}, errOtherNonce
				}
				return v.credential, nil
			},
		})
	}
	switch {
	case err != nil:
		return v, grant, h.failed("a login", err)
	case refused.Code == session.WrongCredentials && h.cfg.SplitAuthErrors && v.known():
		f := h.refused(refused)
		f.code, f.text = codeInvalid, textInvalid
		return v, grant, f
	case refused.No():
		return v, grant, h.refused(refused)
	}
	h.ended.note(grant.Session.Access, grant.Session.AccessDeadline(), session.At(h.cfg.Now()))
	return v, grant, nil
}

// granted renders what a login gave.
func (h *Handler) granted(grant adapters.Grant) loginResp {
	until, from := grant.Session.AccessDeadline(), grant.Session.Started
	return loginResp{schemas: bothSchemas, Token: grant.Access, ExpireInSec: int64(time.Duration(until-from) / time.Second),
		ExpireDate: h.date(until.Time())}
}
