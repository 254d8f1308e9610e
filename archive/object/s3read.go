package object

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Stat implements Store.
func (s *S3) Stat(ctx context.Context, key string) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	return s.head(ctx, key, "")
}

// head asks for one version; the empty one is the newest.
func (s *S3) head(ctx context.Context, key, version string) (Info, error) {
	in := &s3.HeadObjectInput{Bucket: &s.where.bucket, Key: s.name(key), ChecksumMode: types.ChecksumModeEnabled}
	if version != "" {
		in.VersionId = &version
	}
	out, err := s.client.HeadObject(ctx, in)
	if err != nil {
		return Info{}, s.fail(key, err)
	}
	if out.ContentLength == nil {
		return Info{}, fmt.Errorf("%s: the store does not tell its size", key)
	}
	info := Info{
		Key:     key,
		Size:    *out.ContentLength,
		Version: versionID(out.VersionId),
		Time:    aws.ToTime(out.LastModified).UTC(),
		Lock:    Lock{Mode: LockMode(strings.ToLower(string(out.ObjectLockMode))), Hold: out.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn},
	}
	if out.ObjectLockRetainUntilDate != nil {
		info.Lock.Until = out.ObjectLockRetainUntilDate.UTC()
	}
	// The checksum of a multipart upload is one of checksums, and has the number of parts behind it.
	if sum, err := base64.StdEncoding.DecodeString(aws.ToString(out.ChecksumSHA256)); err == nil && len(sum) == len(info.SHA256) &&
		out.ChecksumType != types.ChecksumTypeComposite {
		info.SHA256 = record.Digest(sum)
	}
	return info, nil
}

// Open implements Store. A connection that breaks in the middle of a body is made again from there.
func (s *S3) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return s.OpenVersion(ctx, key, "", off, n)
}

// OpenVersion implements VersionReader; the empty version is the newest.
func (s *S3) OpenVersion(ctx context.Context, key, version string, off, n int64) (io.ReadCloser, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	r := &s3Reader{ctx: ctx, s: s, key: key, version: version, off: off, left: n}
	if off < 0 || n == 0 || n > 0 && off > maxPut-n { // no Range can say this: the size decides
		return r.empty()
	}
	err := r.request()
	if errors.Is(err, ErrRange) { // from beyond the end; or from the very end, of which S3 says the same
		return r.empty()
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// s3Reader reads a range of one version of an object, to the last byte or to an error.
type s3Reader struct {
	ctx          context.Context
	s            *S3
	key, version string
	etag         string // of the first answer: a later one must be of the same bytes
	off, left    int64  // left < 0: to the end, until the first answer says where that is
	body         io.ReadCloser
	failures     int // since the last byte
}

// empty is a reader of nothing, where the object has such a range.
func (r *s3Reader) empty() (io.ReadCloser, error) {
	info, err := r.s.head(r.ctx, r.key, r.version)
	if err != nil {
		return nil, err
	}
	n, err := CheckRange(r.key, info.Size, r.off, r.left)
	if err != nil {
		return nil, err
	}
	if n > 0 {
		return nil, fmt.Errorf("%s: the store refuses %d bytes from %d, and has %d", r.key, n, r.off, info.Size)
	}
	return io.NopCloser(strings.NewReader("")), nil
}

// request asks for what is left.
func (r *s3Reader) request() error {
	in := &s3.GetObjectInput{Bucket: &r.s.where.bucket, Key: r.s.name(r.key)}
	switch {
	case r.left >= 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", r.off, r.off+r.left-1))
	case r.off > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", r.off))
	}
	if r.version != "" {
		in.VersionId = &r.version
	}
	if r.etag != "" {
		in.IfMatch = &r.etag
	}
	out, err := r.s.client.GetObject(r.ctx, in)
	if status(err) == http.StatusPreconditionFailed {
		return fmt.Errorf("%s: replaced while it was read", r.key)
	}
	if err != nil {
		return r.s.fail(r.key, err)
	}
	length := aws.ToInt64(out.ContentLength)
	if out.ContentLength == nil {
		out.Body.Close()
		return fmt.Errorf("%s: the store does not tell how much it sends", r.key)
	}
	if in.Range != nil && !strings.HasPrefix(aws.ToString(out.ContentRange), fmt.Sprintf("bytes %d-", r.off)) {
		out.Body.Close()
		return fmt.Errorf("%s: asked for %s, the store answers with %q", r.key, *in.Range, aws.ToString(out.ContentRange))
	}
	if r.left >= 0 && length != r.left {
		out.Body.Close()
		return fmt.Errorf("%s: %d bytes from %d, the store has %d of them: %w", r.key, r.left, r.off, length, ErrRange)
	}
	r.body, r.left, r.etag = out.Body, length, aws.ToString(out.ETag)
	return nil
}

func (r *s3Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if r.body == nil {
		return 0, fmt.Errorf("%s: %w", r.key, io.ErrUnexpectedEOF)
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.body.Read(p)
	r.off += int64(n)
	r.left -= int64(n)
	if n > 0 {
		r.failures = 0
	}
	if err == nil || r.left == 0 {
		return n, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	r.body.Close()
	r.body = nil
	if r.failures++; r.failures > 3 || r.ctx.Err() != nil {
		return n, fmt.Errorf("%s: %w", r.key, err)
	}
	return n, r.request()
}

// Close gives back the connection.
func (r *s3Reader) Close() error {
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}

// List implements Store. A store that lists out of order is an error: whoever follows such a list would miss keys and not know.
func (s *S3) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		in := &s3.ListObjectsV2Input{Bucket: &s.where.bucket, Prefix: s.name(prefix)}
		if after != "" {
			in.StartAfter = s.name(after)
		}
		last := after
		for {
			page, err := s.client.ListObjectsV2(ctx, in)
			if err != nil {
				yield(Info{}, s.fail("list "+prefix, err))
				return
			}
			for _, o := range page.Contents {
				key, ok := s.key(o.Key)
				if !ok || key == last || !strings.HasPrefix(key, prefix) {
					continue // not ours; or the end of the last page, repeated
				}
				if key < last {
					yield(Info{}, fmt.Errorf("list %s: the store lists %s after %s: %w", prefix, key, last, ErrUnsupported))
					return
				}
				last = key
				if !yield(Info{Key: key, Size: aws.ToInt64(o.Size), Time: aws.ToTime(o.LastModified).UTC()}, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			if aws.ToString(page.NextContinuationToken) == "" {
				yield(Info{}, fmt.Errorf("list %s: the store says that there is more, and not where", prefix))
				return
			}
			in.ContinuationToken, in.StartAfter = page.NextContinuationToken, nil
		}
	}
}

// Versions implements Store.
func (s *S3) Versions(ctx context.Context, key string) ([]Info, error) {
	versions, err := s.versions(ctx, key)
	for i := range versions {
		versions[i].Version = versionID(&versions[i].Version)
	}
	return versions, err
}

// versions keeps the id of an unversioned object, by which it can be deleted.
func (s *S3) versions(ctx context.Context, key string) ([]Info, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	type version struct {
		Info
		latest bool
	}
	var found []version
	add := func(name, id *string, info Info, latest *bool) {
		info.Key, info.Version, info.Time = key, aws.ToString(id), info.Time.UTC()
		// Some servers repeat the last of a page as the first of the next.
		if *name == *s.name(key) && !slices.ContainsFunc(found, func(v version) bool { return v.Version == info.Version }) {
			found = append(found, version{info, aws.ToBool(latest)})
		}
	}
	in := &s3.ListObjectVersionsInput{Bucket: &s.where.bucket, Prefix: s.name(key)}
	for {
		page, err := s.client.ListObjectVersions(ctx, in)
		if err != nil {
			return nil, s.fail(key, err)
		}
		beyond := false // keys that only begin with this one come after it
		for _, v := range page.Versions {
			add(v.Key, v.VersionId, Info{Size: aws.ToInt64(v.Size), Time: aws.ToTime(v.LastModified)}, v.IsLatest)
			beyond = beyond || *v.Key > *s.name(key)
		}
		for _, m := range page.DeleteMarkers {
			add(m.Key, m.VersionId, Info{Time: aws.ToTime(m.LastModified), Marker: true}, m.IsLatest)
			beyond = beyond || *m.Key > *s.name(key)
		}
		next, nextID := aws.ToString(page.NextKeyMarker), aws.ToString(page.NextVersionIdMarker)
		if beyond || !aws.ToBool(page.IsTruncated) {
			break
		}
		if next == aws.ToString(in.KeyMarker) && nextID == aws.ToString(in.VersionIdMarker) {
			return nil, fmt.Errorf("%s: the store says that there are more versions, and not where", key)
		}
		in.KeyMarker, in.VersionIdMarker = &next, &nextID
	}
	slices.SortStableFunc(found, func(a, b version) int {
		if a.latest != b.latest {
			if a.latest {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.Time.UnixNano(), a.Time.UnixNano())
	})
	infos := make([]Info, len(found))
	for i, v := range found {
		infos[i] = v.Info
	}
	return infos, nil
}

// ListVersions implements VersionLister.
func (s *S3) ListVersions(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		var last string           // key
		seen := map[string]bool{} // versions of it: some servers repeat the last of a page as the first of the next
		in := &s3.ListObjectVersionsInput{Bucket: &s.where.bucket, Prefix: s.name(prefix)}
		for {
			page, err := s.client.ListObjectVersions(ctx, in)
			if err != nil {
				yield(Info{}, s.fail("list versions of "+prefix, err))
				return
			}
			for _, info := range s.pageOfVersions(page) {
				if info.Key < last || !strings.HasPrefix(info.Key, prefix) {
					continue
				}
				if info.Key != last {
					last = info.Key
					clear(seen)
				}
				if !seen[info.Version] {
					seen[info.Version] = true
					info.Version = versionID(&info.Version)
					if !yield(info, nil) {
						return
					}
				}
			}
			next, nextID := aws.ToString(page.NextKeyMarker), aws.ToString(page.NextVersionIdMarker)
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			if next == aws.ToString(in.KeyMarker) && nextID == aws.ToString(in.VersionIdMarker) {
				yield(Info{}, fmt.Errorf("list versions of %s: the store says that there are more, and not where", prefix))
				return
			}
			in.KeyMarker, in.VersionIdMarker = &next, &nextID
		}
	}
}

// pageOfVersions gives versions and markers of one page together, by key.
func (s *S3) pageOfVersions(page *s3.ListObjectVersionsOutput) (list []Info) {
	for _, v := range page.Versions {
		if key, ok := s.key(v.Key); ok {
			list = append(list, Info{Key: key, Version: aws.ToString(v.VersionId), Size: aws.ToInt64(v.Size), Time: aws.ToTime(v.LastModified).UTC()})
		}
	}
	for _, m := range page.DeleteMarkers {
		if key, ok := s.key(m.Key); ok {
			list = append(list, Info{Key: key, Version: aws.ToString(m.VersionId), Time: aws.ToTime(m.LastModified).UTC(), Marker: true})
		}
	}
	slices.SortStableFunc(list, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
	return list
}
