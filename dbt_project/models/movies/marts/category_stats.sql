with categorised as (

    select
        category,
        coalesce(released_year // 10 * 10 || 's', 'unknown') as decade,
        runtime_minutes,
        rating
    from {{ ref('movie_categories') }}

)

select
    category,
    if(grouping(decade) = 1, 'all', decade) as decade,
    count(*) as movies,
    round(avg(runtime_minutes), 1) as mean_runtime_minutes,
    round(avg(rating), 2) as mean_rating
from categorised
group by grouping sets ((category), (category, decade))
order by category, decade
