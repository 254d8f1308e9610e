package smtpd

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// What UserLine makes (RFC 9106, at the cost that OWASP names first), and what a file may ask for at most.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonSalt   = 16 // bytes
	argonKey    = 32

	maxArgonMemory = 128 << 10 // KiB
	maxArgonTime   = 16
	maxArgonLanes  = 16

	maxPassword = 1 << 10 // bytes
)

// Hashing passwords takes memory on purpose: so few at once, of all listeners, and few that wait.
const (
	maxHashing = 2
	maxWaiting = 32
)

var (
	hashing = make(chan struct{}, maxHashing)
	waiting atomic.Int64
)

// errBusy: so many passwords are being checked that this one is not.
var errBusy = errors.New("too many passwords to check")

// hashed is a password by argon2id.
type hashed struct {
	memory uint32 // KiB
	time   uint32
	lanes  uint8
	salt   []byte
	key    []byte
}

// user is one line of the file.
type user struct {
	name string
	hashed
}

// userList is what the file holds.
type userList struct {
	byName map[string]*user
	order  []*user
}

// users are those who may authenticate, by the file as it is now. Safe for concurrent use.
type users struct {
	*reloaded[*userList]
	secret [32]byte
}

func newUsers(file string, log *slog.Logger) *users {
	u := &users{reloaded: &reloaded[*userList]{files: []string{file}, read: func() (*userList, error) { return readUsers(file) }, log: log}}
	rand.Read(u.secret[:])
	return u
}

func (u *users) list() (*userList, error) { return u.get() }

// check says whether name has this password. It takes as long for a name that there is not as for one that there is.
func (u *users) check(done <-chan struct{}, name, password string) (bool, error) {
	list, err := u.list()
	if err != nil {
		return false, err
	}
	if len(list.order) == 0 {
		return false, nil
	}
	who, known := list.byName[name]
	if !known {
		who = u.standIn(list, name)
	}
	if waiting.Add(1) > maxWaiting {
		waiting.Add(-1)
		return false, errBusy
	}
	select {
	case hashing <- struct{}{}:
		waiting.Add(-1)
	case <-done:
		waiting.Add(-1)
		return false, errBusy
	}
	defer func() { <-hashing }()
	return who.matches(password) && known, nil
}

// standIn is the user whose hash is computed for a name that there is not: always the same one for a name.
func (u *users) standIn(list *userList, name string) *user {
	mac := hmac.New(sha256.New, u.secret[:])
	mac.Write([]byte(name))
	return list.order[binary.BigEndian.Uint64(mac.Sum(nil))%uint64(len(list.order))]
}

func (h *hashed) matches(password string) bool {
	key := argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.lanes, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

// UserLine is a line of the file auth.users: a name and, as a PHC string, the argon2id hash of a password.
func UserLine(name, password string) (string, error) {
	if err := checkUserName(name); err != nil {
		return "", err
	}
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("a password has 1 to %d bytes", maxPassword)
	}
	if strings.ContainsRune(password, 0) {
		return "", errors.New("a password can't hold NUL (RFC 4616)")
	}
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, 1, argonKey)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("%s:$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", name, argon2.Version, argonMemory, argonTime,
		b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

func checkUserName(name string) error {
	if name == "" || len(name) > 255 || !utf8.ValidString(name) || name[0] == '#' ||
		strings.ContainsFunc(name, func(r rune) bool { return r == ':' || unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return fmt.Errorf("%q is not a user name: no colon, blank or control character, at most 255 bytes", name)
	}
	return nil
}

// readUsers reads the file: lines of name:hash, empty ones, and those that begin with #. Errors name the line and no hash.
func readUsers(file string) (*userList, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list := &userList{byName: map[string]*user{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		u, err := parseUser(line)
		if err == nil && list.byName[u.name] != nil {
			err = fmt.Errorf("%q is there twice", u.name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", file, n, err)
		}
		list.byName[u.name] = u
		list.order = append(list.order, u)
	}
	return list, lines.Err()
}

var errHash = errors.New("not name:$argon2id$v=19$m=…,t=…,p=…$salt$hash: holdfast smtp-user makes such lines")

func parseUser(line string) (*user, error) {
	name, hash, ok := strings.Cut(line, ":")
	if !ok {
		return nil, errHash
	}
	if err := checkUserName(name); err != nil {
		return nil, err
	}
	f := strings.Split(hash, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v="+strconv.Itoa(argon2.Version) {
		return nil, errHash
	}
	u := &user{name: name}
	costs := strings.Split(f[3], ",")
	if len(costs) != 3 {
		return nil, errHash
	}
	var cost [3]uint32
	for i, limit := range []struct {
		key string
		max uint64
	}{{"m", maxArgonMemory}, {"t", maxArgonTime}, {"p", maxArgonLanes}} {
		value, ok := strings.CutPrefix(costs[i], limit.key+"=")
		n, err := strconv.ParseUint(value, 10, 32)
		if !ok || err != nil || n == 0 {
			return nil, errHash
		}
		if n > limit.max {
			return nil, fmt.Errorf("%s=%d is more than the %d that is allowed", limit.key, n, limit.max)
		}
		cost[i] = uint32(n)
	}
	u.memory, u.time, u.lanes = cost[0], cost[1], uint8(cost[2])
	var err1, err2 error
	u.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(f[4])
	u.key, err2 = base64.RawStdEncoding.Strict().DecodeString(f[5])
	if err1 != nil || err2 != nil || len(u.salt) < 8 || len(u.salt) > 64 || len(u.key) < 16 || len(u.key) > 64 {
		return nil, errHash
	}
	return u, nil
}
