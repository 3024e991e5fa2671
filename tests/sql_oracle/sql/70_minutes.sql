-- Rule 8: what each vehicle did in each minute of event time.
create table counted as
select * from (
    select *, event_ms // 60000 * 60000 as minute_ms,
        list_contains(quality_flags, 'GPS_JUMP') as is_jump,
        count(*) over (partition by message_id) as n_rows
    from telemetry
)
where vehicle_id is not null and not (time_source = 'RECEIVED_FALLBACK' and n_rows > 1);

create table minutes as
with credited as (
    select b.vehicle_id, b.minute_ms, sum(s.distance_m) as distance_gps_m
    from steps s
    join counted a on a.message_id = s.message_id and a.sample_idx = s.from_idx
    join counted b on b.message_id = s.message_id and b.sample_idx = s.sample_idx
    where a.vehicle_id = b.vehicle_id
    group by all
),
sums as (
    select vehicle_id, minute_ms,
        list_sort(list_distinct(list(device_no))) as device_nos,
        count(distinct message_id) as n_uploads,
        count(*) as n_samples,
        count(*) filter (len(quality_flags) > 0) as n_flagged,
        min(speed_kmh) as speed_min_kmh,
        max(speed_kmh) filter (not is_jump) as speed_max_kmh,
        coalesce(sum(speed_kmh::double), 0) as speed_sum_kmh,
        coalesce(sum(speed_kmh::double * speed_kmh::double), 0) as speed_sumsq,
        count(speed_kmh) as speed_n,
        count(*) filter (speed_kmh >= 5) as driving_s,
        count(*) filter (speed_kmh > 110) as overspeed_s,
        min(event_ms) as first_ms,
        max(event_ms) as last_ms
    from counted group by all
)
select s.*, coalesce(c.distance_gps_m, 0) as distance_gps_m
from sums s left join credited c using (vehicle_id, minute_ms);
