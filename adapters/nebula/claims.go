package nebula

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// claims are what a token says: the venue's, with its names, types and order, and a "jti" after them (RFC 7519, 4.1.7).
// Without that one two logins of a user in one second would get the same token, because RS256 signs without chance.
type claims struct {
	AccountID  int64  `json:"https://oms-trading/accountId"`
	UserID     string `json:"https://oms-trading/userId"`
	ExchangeID int64  `json:"https://oms-trading/exchangeId"`
	MpID       int64  `json:"https://oms-trading/mpId"`
	Issuer     string `json:"iss"`
	Subject    string `json:"sub"`
	Audience   string `json:"aud"`
	Issued     int64  `json:"iat"` // Unix seconds
	Expires    int64  `json:"exp"` // Unix seconds
	Party      string `json:"azp"`
	Scope      string `json:"scope"`
	Grant      string `json:"gty"`
	Session    string `json:"jti"` // the session's id, which is public
}

// claimsOf says what the token of a login says. It costs the same for a decoy.
func (h *Handler) claimsOf(c adapters.Claims) claims {
	account := h.cfg.account(c.User)
	scope := h.cfg.Scope
	if granted := h.gate.Profile(c.User).Scopes; len(granted) > 0 {
		scope = strings.Join(granted, " ")
	}
	return claims{
		AccountID: account.AccountID, UserID: account.UserID, ExchangeID: account.ExchangeID, MpID: account.MpID,
		Issuer: h.cfg.Issuer, Subject: h.cfg.SubjectPrefix + string(c.User), Audience: h.cfg.Audience,
		Issued: c.Issued.Unix(), Expires: c.Expires.Unix(), Party: h.cfg.ClientID, Scope: scope, Grant: "password",
		Session: c.Session.String(),
	}
}

// account is where the user stands at the exchange.
func (c Config) account(user session.UserID) Account {
	a := c.Accounts[user]
	adapters.SetDefault(&a.ExchangeID, c.ExchangeID)
	adapters.SetDefault(&a.MpID, c.MpID)
	adapters.SetDefault(&a.AccountID, derived("account", user))
	adapters.SetDefault(&a.UserID, strconv.FormatInt(derived("user", user), 10))
	return a
}

// derived is a number that stands for the user for ever: 52 bits, so that every client's JSON numbers hold it.
func derived(what string, user session.UserID) int64 {
	sum := sha256.Sum256([]byte("rollbook/nebula/" + what + "/v1\x00" + string(user)))
	return int64(binary.BigEndian.Uint64(sum[:8])>>12) | 1
}

func randomKey() (key [32]byte) {
	rand.Read(key[:])
	return key
}
