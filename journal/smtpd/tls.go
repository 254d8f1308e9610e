package smtpd

import (
	"crypto/tls"
	"os"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// handshakeTimeout bounds a TLS handshake.
const handshakeTimeout = time.Minute

// certificate is a key pair that is read again when its files change, since certificates live shorter than servers.
type certificate struct {
	certFile, keyFile string

	mu   sync.Mutex
	pair *tls.Certificate // guarded by mu, as are the times
	cert time.Time
	key  time.Time
}

// get is the pair as it is on disk. While a new pair can't be read, half written perhaps, the one before serves.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert, err1 := os.Stat(c.certFile)
	key, err2 := os.Stat(c.keyFile)
	if c.pair != nil && (err1 != nil || err2 != nil || cert.ModTime().Equal(c.cert) && key.ModTime().Equal(c.key)) {
		return c.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		if c.pair != nil {
			return c.pair, nil
		}
		return nil, err
	}
	c.pair = &pair
	if err1 == nil && err2 == nil {
		c.cert, c.key = cert.ModTime(), key.ModTime()
	}
	return c.pair, nil
}

// describeTLS is what a record says of the client's TLS.
func describeTLS(s tls.ConnectionState) *record.TLS {
	t := &record.TLS{Cipher: tls.CipherSuiteName(s.CipherSuite), ServerName: s.ServerName}
	for name, v := range tlsVersions {
		if v == s.Version {
			t.Version = name
		}
	}
	return t
}
