// Package web shows the archive to people: pages, and the API that pages and command line share.
//
// What mail says is hostile until proven harmless: it is escaped, or sanitised and shown in a sandboxed frame of its own that may load
// nothing. Nothing is shown whose view is not in custody as an act. The pages listen on loopback and answer to loopback names only, so
// that a foreign page can't reach them by pointing its own name here (DNS rebinding), and a foreign page can't have a browser ask for
// anything behind its user's back: a search or a view that nobody made would stand in the ledger.
package web

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Config is the section "web" of the configuration.
type Config struct {
	Address string `mapstructure:"address"` // host:port of the pages, the API for reading, metrics and health; a loopback address
}

// Validate names every fault at once.
func (c Config) Validate() error {
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		return fmt.Errorf("web.address: %q is not host:port", c.Address)
	}
	var errs []error
	if !isLoopback(host) {
		errs = append(errs, fmt.Errorf("web.address: %q is not a loopback address: there is no sign-in yet", c.Address))
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		errs = append(errs, fmt.Errorf("web.address: %q has no port", c.Address))
	}
	return errors.Join(errs...)
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() && ip.Zone() == ""
}

// pagePolicy is the Content-Security-Policy of every answer that has no stricter one: own files only, nothing inline, no DOM sinks for
// strings.
const pagePolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; frame-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// dataPolicy is that of answers that are no pages: should a browser show one all the same, it is text without any rights.
const dataPolicy = "default-src 'none'; sandbox; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// Handler serves pages, the API for reading, and what extra adds under patterns of http.ServeMux (metrics, health).
func Handler(s Services, extra map[string]http.Handler) http.Handler {
	p := &pages{newAPI(s, false)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.searchPage)
	mux.HandleFunc("GET /message/{id}", p.messagePage)
	mux.HandleFunc("GET /message/{id}/html", p.htmlFrame)
	mux.HandleFunc("GET /message/{id}/attachment/{path}", p.attachment)
	mux.HandleFunc("GET /help", p.helpPage)
	mux.HandleFunc("GET /help/{page}", p.helpPage)
	mux.HandleFunc("GET /static/{file}", p.staticFile)
	mux.Handle("/api/v1/", p.api.routes())
	for pattern, h := range extra {
		mux.Handle(pattern, h)
	}
	mux.HandleFunc("/", p.nothingHere)
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(refuseForeignPage))
	return guard(refuseForeignHosts(crossOrigin.Handler(refuseForeignPages(onBehalf(mux)))))
}

// guard sets what every answer has, whatever it is.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-DNS-Prefetch-Control", "off")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// refuseForeignHosts answers to loopback names only (RFC 9110 section 7.4: 421).
func refuseForeignHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		} else {
			host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		}
		if !isLoopback(host) {
			http.Error(w, "this server answers to loopback names only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuseForeignPages answers requests that another site had the browser make only where it is a person who follows a link. What is not
// a browser says nothing of sites (Fetch Metadata). http.CrossOriginProtection lets every GET pass; here a GET writes acts.
func refuseForeignPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "same-origin", "none":
		default: // cross-site, and same-site: another port of this machine
			if r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Sec-Fetch-Dest") != "document" {
				refuseForeignPage(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func refuseForeignPage(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "refused: another site asked for this", http.StatusForbidden)
}

// onBehalf says on whose behalf requests are served: without sign-in, that of the address they come from.
func onBehalf(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = "unknown"
		}
		next.ServeHTTP(w, r.WithContext(WithActor(r.Context(), record.Actor{ID: "web:" + host, Via: "web"})))
	})
}
