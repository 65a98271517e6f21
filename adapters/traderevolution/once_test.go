package traderevolution

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/engine/session"
)

// TestRedeemedOnce: of sixteen who redeem one token at the same instant, at two pods, exactly one succeeds, and everybody
// else is told that it is not valid.
func TestRedeemedOnce(t *testing.T) {
	t.Parallel()
	tokens, redeemers, racing := 2000, 16, 32
	if testing.Short() {
		tokens = 100
	}
	h := newHouse(t, func(p *session.Policy) {
		p.AccessLifetime, p.RefreshLifetime, p.OneTimeLifetime = time.Hour, 2*time.Hour, 10*time.Minute // the machine may be busy
		// All of them are one user's, and no redeemer may lose to a limit.
		p.OneTimeTokens = racing
	})
	pods := []http.Handler{New(free(), h.gate(nil), discard), New(free(), h.gate(nil), discard)}
	call := func(pod int, path, body, bearer string) string {
		request := httptest.NewRequest("POST", path, strings.NewReader(body))
		request.Header.Set("Authorization", bearer)
		w := httptest.NewRecorder()
		pods[pod%len(pods)].ServeHTTP(w, request)
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		return w.Body.String()
	}
	member := func(body, name string) string {
		_, rest, _ := strings.Cut(body, `"`+name+`":"`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	bearer := "Bearer " + member(call(0, "/auth/token", `{"login":"demo","password":"pw"}`, ""), "accessToken")
	var next, redeemed atomic.Int64
	var workers sync.WaitGroup
	for range racing {
		workers.Go(func() {
			for n := int(next.Add(1)); n <= tokens; n = int(next.Add(1)) {
				token := member(call(n, "/external/token", "", bearer), "token")
				var yes atomic.Int32
				var redeeming sync.WaitGroup
				for r := range redeemers {
					redeeming.Go(func() {
						switch got := call(r, "/external/token/verify", fmt.Sprintf(`{"token":%q}`, token), ""); got {
						case `{"isValid":true,"isExpired":false,"login":"demo"}` + "\n":
							yes.Add(1)
						case `{"isValid":false,"isExpired":true}` + "\n":
						default:
							t.Errorf("token %d: %s", n, got)
						}
					})
				}
				redeeming.Wait()
				if yes.Load() != 1 {
					t.Errorf("token %d was redeemed %d times", n, yes.Load())
				}
				redeemed.Add(int64(yes.Load()))
			}
		})
	}
	workers.Wait()
	if redeemed.Load() != int64(tokens) {
		t.Errorf("%d redemptions of %d tokens", redeemed.Load(), tokens)
	}
}
