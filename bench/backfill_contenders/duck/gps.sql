create table heads as
select id, object, device_no, boot_count, seq, received, message_id, hash(samples) as content,
       list_max(list_transform(samples, lambda s: s.device_time)) as latest
from read_uploads;
--rules
create table samples as
select id, (row_number() over (partition by id order by s.device_time, place) - 1)::integer
           as sample_idx,
    s.device_time as device_time, s.fix_type as fix_type,
    if(bad(s.lat_deg, -90, 90) or bad(s.lon_deg, -180, 180), null, s.lat_deg) as lat,
    if(bad(s.lat_deg, -90, 90) or bad(s.lon_deg, -180, 180), null, s.lon_deg) as lon,
    if(near(s.altitude_m, -777) or near(s.altitude_m, -236.8) or bad(s.altitude_m, -500, 9000),
       null, s.altitude_m) as altitude_m,
    if(near(s.speed_kmh, 255) or near(s.speed_kmh, 410.383) or bad(s.speed_kmh, 0, 300),
       null, s.speed_kmh) as speed_kmh,
    if(bad(s.heading_deg, 0, 360), null, s.heading_deg) as heading_deg,
    if(bad(s.hdop, 0, 99), null, s.hdop) as hdop,
    if(bad(s.accuracy_m, 0, 100000), null, s.accuracy_m) as accuracy_m,
    if(bad(s.satellites, 0, 128), null, s.satellites) as satellites,
    near(s.altitude_m, -777) or near(s.altitude_m, -236.8) or near(s.speed_kmh, 255)
        or near(s.speed_kmh, 410.383) or near(s.speed_kmh, 65535) or near(s.heading_deg, 65535)
        or near(s.hdop, 99.9) or near(s.hdop, 99.99) or near(s.accuracy_m, 65535)
        or near(s.satellites, 255) as is_sentinel,
    bad(s.lat_deg, -90, 90) or bad(s.lon_deg, -180, 180)
        or (bad(s.altitude_m, -500, 9000) and not near(s.altitude_m, -777))
        or (bad(s.speed_kmh, 0, 300) and not near(s.speed_kmh, 410.383)
            and not near(s.speed_kmh, 65535))
        or (bad(s.heading_deg, 0, 360) and not near(s.heading_deg, 65535))
        or (bad(s.hdop, 0, 99) and not near(s.hdop, 99.9) and not near(s.hdop, 99.99))
        or (bad(s.accuracy_m, 0, 100000) and not near(s.accuracy_m, 65535))
        or (bad(s.satellites, 0, 128) and not near(s.satellites, 255)) as is_outside
from (
    select id, unnest(kept) as s, generate_subscripts(kept, 1) as place
    from (
        select id, case when len(list_distinct(list_transform(samples, lambda s: s.device_time)))
                             < len(samples)
                        then list_filter(samples, lambda s, n: list_position(samples, s) = n)
                        else samples end as kept
        from read_uploads join winners using (id)
    )
);

alter table read_uploads drop column samples;

create table placed as
select * exclude (lat, lon),
    coalesce(abs(lat) < 1e-6 and abs(lon) < 1e-6, false) as is_zero,
    lat is not null and lon is not null and not is_zero
        and coalesce(satellites = 0 or fix_type = 'NONE', false) as is_stale,
    lat is not null and lon is not null and not is_zero and not is_stale as has_place,
    if(has_place, lat, null) as lat_deg, if(has_place, lon, null) as lon_deg,
    lat as raw_lat, lon as raw_lon
from samples;

drop table samples;

create table positions as
select id, sample_idx, device_time, lat_deg, lon_deg, speed_kmh,
    row_number() over w as n, lag(sample_idx) over w as from_idx,
    metres(lag(lat_deg) over w, lag(lon_deg) over w, lat_deg, lon_deg) as far,
    lag(device_time) over w as before, lag(speed_kmh) over w as speed_before
from placed where has_place window w as (partition by id order by sample_idx);

create table doubtful as
select distinct id from positions where far > 70 * greatest((device_time - before) / 1000.0, 1.0);

create table walk as
with recursive
suspects as (select * from positions semi join doubtful using (id)),
step as (
    select id, sample_idx, n, device_time as t, lat_deg as lat, lon_deg as lon, speed_kmh as speed,
           'first' as verdict, 0 as streak, null::integer as from_idx, 0::double as moved,
           sample_idx as at_idx, device_time as at_t, lat_deg as at_lat, lon_deg as at_lon,
           speed_kmh as at_speed
    from suspects where n = 1
    union all
    select id, sample_idx, n, t, lat, lon, speed,
        case when not jumped then 'moved' when streak = 3 then 'landed' else 'jump' end,
        if(jumped and streak < 3, streak, 0), if(jumped, null, at_idx),
        if(metres(at_lat, at_lon, lat, lon) < 20 and coalesce(speed < 1 and at_speed < 1, false),
           0, metres(at_lat, at_lon, lat, lon)),
        if(jumped and streak < 3, at_idx, sample_idx), if(jumped and streak < 3, at_t, t),
        if(jumped and streak < 3, at_lat, lat), if(jumped and streak < 3, at_lon, lon),
        if(jumped and streak < 3, at_speed, speed)
    from (
        select p.id, p.sample_idx, p.n, p.device_time as t, p.lat_deg as lat, p.lon_deg as lon,
               p.speed_kmh as speed, s.at_idx, s.at_t, s.at_lat, s.at_lon, s.at_speed,
               too_fast(s.at_t, s.at_lat, s.at_lon, p.device_time, p.lat_deg, p.lon_deg) as jumped,
               if(s.streak > 0 and not too_fast(s.t, s.lat, s.lon, p.device_time, p.lat_deg,
                                                p.lon_deg), s.streak + 1, 1) as streak
        from step s join suspects p on p.id = s.id and p.n = s.n + 1
    )
)
select id, sample_idx, from_idx, moved, verdict from step;

create table steps as
select id, sample_idx, from_idx, if(from_idx is null, null, moved) as moved,
       verdict = 'jump' as is_jump
from walk
union all
select id, sample_idx, from_idx,
       if(far < 20 and coalesce(speed_kmh < 1 and speed_before < 1, false), 0, far), false
from positions anti join doubtful using (id);

drop table positions;
drop table walk;

create table telemetry as
select t.*, if(b.n = 1, b.vehicle_id, null) as vehicle_id,
    case when coalesce(b.n, 0) = 0 then 'UNBOUND' when b.n = 1 then 'BOUND' else 'AMBIGUOUS' end
        as binding_status,
    if(b.n = 1, b.binding_version, null) as binding_version
from (
    select p.* exclude (is_zero, is_stale, has_place, is_sentinel, is_outside, raw_lat, raw_lon),
        s.from_idx, s.moved, coalesce(s.is_jump, false) as is_jump,
        if(p.is_stale, map {'stale_lat_deg': p.raw_lat::varchar,
                            'stale_lon_deg': p.raw_lon::varchar}, null) as extras,
        c.received, c.time_source, if(c.shift is null, c.received, p.device_time - c.shift) as event,
        u.message_id, u.device_no, u.object, u."offset", u.firmware_version, u.boot_count, u.seq,
        case when p.is_zero or p.is_stale or p.is_sentinel or p.is_outside or s.is_jump
             then c.flags || list_filter([
                if(p.is_sentinel, 'SENTINEL', null), if(p.is_outside, 'OUT_OF_RANGE', null),
                if(p.is_zero, 'GPS_ZERO', null), if(p.is_stale, 'GPS_STALE', null),
                if(s.is_jump, 'GPS_JUMP', null)], lambda f: f is not null)
             else c.flags end as quality_flags
    from placed p join timed c using (id)
    join (select id, message_id, device_no, object, "offset", firmware_version, boot_count, seq
          from read_uploads) u using (id)
    left join steps s using (id, sample_idx)
) t
asof left join spells b on b.device_no = t.device_no and b.since <= t.event;

drop table placed;
drop table steps;

create table minutes as
with counted as (
    select *, event // 60000 as m from telemetry
    where vehicle_id is not null
      and (time_source <> 'RECEIVED_FALLBACK'
           or id in (select id from telemetry group by id having count(*) = 1))
),
credited as (
    select b.vehicle_id, b.m, sum(b.moved) as distance_gps_m
    from counted b join telemetry a on a.id = b.id and a.sample_idx = b.from_idx
    where a.vehicle_id = b.vehicle_id
    group by all
),
sums as (
    select vehicle_id, m, list_distinct(list(device_no)) as device_nos,
        count(distinct message_id) as n_uploads, count(*) as n_samples,
        count(*) filter (len(quality_flags) > 0) as n_flagged,
        min(speed_kmh) as speed_min_kmh,
        max(speed_kmh) filter (not is_jump) as speed_max_kmh,
        coalesce(sum(speed_kmh::double), 0) as speed_sum_kmh, count(speed_kmh) as speed_n,
        coalesce(sum(speed_kmh::double * speed_kmh::double), 0) as speed_sumsq,
        count(*) filter (speed_kmh >= 5) as driving_s,
        count(*) filter (speed_kmh > 110) as overspeed_s,
        min(event) as first_ms, max(event) as last_ms,
        arg_min({lat: lat_deg, lon: lon_deg}, (event, message_id))
            filter (lat_deg is not null and not is_jump) as first_place,
        arg_max({lat: lat_deg, lon: lon_deg}, (event, message_id))
            filter (lat_deg is not null and not is_jump) as last_place
    from counted group by all
)
select vehicle_id, make_timestamptz(m * 60000000) as minute, 0 as revision,
    sums.* exclude (vehicle_id, m, first_ms, last_ms, first_place, last_place),
    coalesce(distance_gps_m, 0) as distance_gps_m,
    make_timestamptz(first_ms * 1000) as first_time, make_timestamptz(last_ms * 1000) as last_time,
    first_place.lat as first_lat_deg, first_place.lon as first_lon_deg,
    last_place.lat as last_lat_deg, last_place.lon as last_lon_deg
from sums left join credited using (vehicle_id, m);
