-- Rule 3, M11: walk the positions of each upload; three consistent candidates in a row move the car.
create macro metres(lat1, lon1, lat2, lon2) as
    2 * 6371008.8 * asin(least(1.0, sqrt(
        power(sin(radians(lat2 - lat1) / 2), 2)
        + cos(radians(lat1)) * cos(radians(lat2)) * power(sin(radians(lon2 - lon1) / 2), 2))));
create macro too_fast(t1, lat1, lon1, t2, lat2, lon2) as
    metres(lat1, lon1, lat2, lon2) / greatest((t2 - t1) / 1000.0, 1.0) > 70;

create table positions as
select message_id, sample_idx, ts, lat, lon, speed,
       row_number() over (partition by message_id order by sample_idx) as n
from cleaned_samples where lat is not null;

create table walk as
with recursive step as (
    select message_id, sample_idx, n, ts, lat, lon,
           'first' as verdict, 0 as streak,
           sample_idx as at_idx, ts as at_ts, lat as at_lat, lon as at_lon
    from positions where n = 1
    union all
    select message_id, sample_idx, n, ts, lat, lon,
           case when not jumped then 'moved' when streak = 3 then 'landed' else 'jump' end,
           case when jumped and streak < 3 then streak else 0 end,
           case when jumped and streak < 3 then at_idx else sample_idx end,
           case when jumped and streak < 3 then at_ts else ts end,
           case when jumped and streak < 3 then at_lat else lat end,
           case when jumped and streak < 3 then at_lon else lon end
    from (
        select p.message_id, p.sample_idx, p.n, p.ts, p.lat, p.lon,
               s.at_idx, s.at_ts, s.at_lat, s.at_lon,
               too_fast(s.at_ts, s.at_lat, s.at_lon, p.ts, p.lat, p.lon) as jumped,
               case when s.streak > 0 and not too_fast(s.ts, s.lat, s.lon, p.ts, p.lat, p.lon)
                    then s.streak + 1 else 1 end as streak
        from step s join positions p on p.message_id = s.message_id and p.n = s.n + 1
    )
)
select *, lag(at_idx) over (partition by message_id order by n) as from_idx from step;

-- One line a credited step: from the accepted position before it, not to the one that landed.
create table steps as
select w.message_id, w.sample_idx, w.from_idx,
    case when metres(a.lat, a.lon, w.lat, w.lon) < 20
              and coalesce(a.speed < 1, false) and coalesce(b.speed < 1, false)
         then 0.0 else metres(a.lat, a.lon, w.lat, w.lon) end as distance_m
from walk w
join positions a on a.message_id = w.message_id and a.sample_idx = w.from_idx
join positions b on b.message_id = w.message_id and b.sample_idx = w.sample_idx
where w.verdict = 'moved';
