-- Rule 3: sentinels, ranges, zero, stale. Speeds are float32 in the tables; adapters leave STS units alone.
create macro sentinel(v, known) as
    v is not null and len(list_filter(known, lambda k: abs(v - k) <= 0.005)) > 0;
create macro outside(v, lo, hi, known) as
    v is not null and not sentinel(v, known) and not (v between lo and hi);
create macro cleaned(v, lo, hi, known) as
    case when sentinel(v, known) or outside(v, lo, hi, known) then null else v end;

create table cleaned_samples as
with checked as (
    select message_id, device, sample_idx, ts, fields.fix as fix,
        cleaned(fields.lat, -90, 90, []::double[]) as lat0,
        cleaned(fields.lon, -180, 180, []::double[]) as lon0,
        cleaned(fields.sp, 0, 300, [255, 410.383, 65535]::double[])::float as speed,
        cleaned(fields.nos, 0, 128, [255]::double[]) as satellites,
        sentinel(fields.alt, [-777, -236.8]::double[])
            or sentinel(fields.sp, [255, 410.383, 65535]::double[])
            or sentinel(fields.hd, [65535]::double[])
            or sentinel(fields.dop, [99.9, 99.99]::double[])
            or sentinel(fields.acc, [65535]::double[])
            or sentinel(fields.nos, [255]::double[]) as is_sentinel,
        outside(fields.lat, -90, 90, []::double[])
            or outside(fields.lon, -180, 180, []::double[])
            or outside(fields.alt, -500, 9000, [-777, -236.8]::double[])
            or outside(fields.sp, 0, 300, [255, 410.383, 65535]::double[])
            or outside(fields.hd, 0, 360, [65535]::double[])
            or outside(fields.dop, 0, 99, [99.9, 99.99]::double[])
            or outside(fields.acc, 0, 100000, [65535]::double[])
            or outside(fields.nos, 0, 128, [255]::double[]) as is_outside
    from samples
),
zeroed as (
    select *,
        lat0 is not null and lon0 is not null as has_position,
        coalesce(abs(lat0) < 1e-6 and abs(lon0) < 1e-6, false) as is_zero
    from checked
),
staled as (
    select *,
        has_position and not is_zero
            and (coalesce(satellites = 0, false) or coalesce(fix in (0, 1), false)) as is_stale
    from zeroed
)
select message_id, device, sample_idx, ts, speed, is_sentinel, is_outside, is_zero, is_stale,
    case when has_position and not is_zero and not is_stale then lat0 end as lat,
    case when has_position and not is_zero and not is_stale then lon0 end as lon
from staled;
