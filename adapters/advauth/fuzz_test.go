package advauth

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzTokenOf: a token that is found in a query is one that the standard library finds there too, and one that is put
// there is found, behind whatever else stands there that is none.
func FuzzTokenOf(f *testing.F) {
	f.Add("token="+sampleToken, "x")
	f.Add("a=b&TOKEN=%7B"+sampleToken+"%7D&token=other", " x ")
	f.Add("tok%65n=%zz", "%")
	f.Add("Token=;&token=x", "")
	f.Add("&&=&%=1&token", "a+b&c=d")
	f.Fuzz(func(t *testing.T, query, token string) {
		text, given := tokenOf(&url.URL{RawQuery: query})
		if !given && text != "" || text != strings.TrimSpace(text) {
			t.Fatalf("%q has the token %q, %v", query, text, given)
		}
		values, err := url.ParseQuery(query)
		found := !given || text == ""
		for name, list := range values {
			found = found || strings.EqualFold(name, "token") && strings.TrimSpace(list[0]) == text
		}
		if err == nil && !found {
			t.Fatalf("%q has the token %q, and by the library %v", query, text, values)
		}
		if !given && err == nil {
			for name, list := range values {
				if strings.EqualFold(name, "token") && strings.TrimSpace(list[0]) != "" && len(values) == 1 {
					t.Fatalf("%q has no token, and by the library %v", query, values)
				}
			}
			if len(values) > 0 {
				return // it may have an empty one, which counts
			}
			query += "&"
		} else {
			query = ""
		}
		put := query + "tOkEn=" + url.QueryEscape(token) + "&token=another"
		if text, given := tokenOf(&url.URL{RawQuery: put}); text != strings.TrimSpace(token) || given != (text != "") {
			t.Fatalf("%q has the token %q, %v", put, text, given)
		}
	})
}
